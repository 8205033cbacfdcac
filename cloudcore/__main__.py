"""`python -m cloudcore`."""

import sys

from cloudcore.app import main

sys.exit(main())
