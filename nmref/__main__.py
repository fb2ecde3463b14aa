"""`python -m nmref` is the command `nmref`."""

from nmref.cli import main

raise SystemExit(main())
