"""The rules of the Kubernetes API over stored objects; knows no HTTP and not who is asking."""
