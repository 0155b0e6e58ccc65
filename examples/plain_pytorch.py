"""Skip-layer attention in a plain PyTorch loop: the model is a `torch.nn.Module` of token ids."""

import torch

from sla_ablate import GPT, GPTConfig, SkipPattern

T = 32
tokens = torch.arange(20_000) ** 2 % 97  # a text as ids; here a sequence that can be learnt
windows = tokens.unfold(0, T + 1, T)  # [N, T + 1]

pattern = SkipPattern.skip_layer(n_layer=4, n_head=4, distance=2, heads=2)
model = GPT(GPTConfig(n_layer=4, n_head=4, n_embd=64, block_size=T, vocab_size=97), pattern)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

for _ in range(60):
    batch = windows[torch.randint(len(windows), (16,))]
    loss = model(batch[:, :-1], targets=batch[:, 1:])  # nats per token
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"training loss {loss.item():.3f} nats per token")
model.save("model")  # GPT.load("model") reads it
