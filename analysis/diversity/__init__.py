"""How different the heads of a layer are: attention maps walked in tiles, never held.

`maps.py` walks the maps, `metric.py` says what a metric is, `metrics/` holds one file for each, `roles.py` tells own
heads from skip heads, `head_diversity.py` computes them all.

Shapes: L layers, H heads, T tokens, R query rows, K keys of a tile, d = head_size, C = n_embd, P position buckets.
Entropies and divergences are in nats.
"""
