"""`python -m edgecore`."""

import sys

from edgecore.app import main

sys.exit(main())
