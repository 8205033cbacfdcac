"""`python -m kubecore`."""

import sys

from kubecore.app import main

sys.exit(main())
