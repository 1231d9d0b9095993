"""`python -m ringfence`: the console script where there is none."""

from ringfence.faces.cli import main

main()
