"""`python -m sla_ablate` is `sla-ablate`."""

from sla_ablate.cli import main

main()
