"""`python -m armadillo`."""

from armadillo.cli import main

main()
