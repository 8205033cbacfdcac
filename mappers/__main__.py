"""`python -m mappers`."""

import sys

from mappers.cli import main

sys.exit(main())
