"""Control groups of pods, laid out as kubelet lays them out; knows no runtime."""
