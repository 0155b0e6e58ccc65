"""`python -m sla_ablate` is `sla-ablate`."""

from sla_ablate.commands import main

main()
