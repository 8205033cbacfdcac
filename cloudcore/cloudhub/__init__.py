"""The one port that edge nodes dial. Knows records and reports, nothing of Kubernetes."""
