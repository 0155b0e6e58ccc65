"""Skip-layer attention trained by `lightning.Trainer` on a DataLoader of one's own: batches of token ids [B, T + 1]."""

import lightning
import torch
from torch.utils.data import DataLoader

from sla_ablate import GPT, GPTConfig, LanguageModel, OptimConfig, SkipPattern

T = 32
tokens = torch.arange(20_000) ** 2 % 97  # a text as ids; here a sequence that can be learnt
windows = tokens.unfold(0, T + 1, T)  # [N, T + 1]
train, validation = DataLoader(windows[:-64], batch_size=16, shuffle=True), DataLoader(windows[-64:], batch_size=16)

pattern = SkipPattern.skip_layer(n_layer=4, n_head=4, distance=2, heads=2)
model = GPT(GPTConfig(n_layer=4, n_head=4, n_embd=64, block_size=T, vocab_size=97), pattern)
module = LanguageModel(model, OptimConfig(steps=60, lr=3e-3, warmup_steps=10))

trainer = lightning.Trainer(max_steps=60, log_every_n_steps=10, accelerator="cpu")
trainer.fit(module, train, validation)
trainer.save_checkpoint("last.ckpt")
module = LanguageModel.load_from_checkpoint("last.ckpt", weights_only=True)
(result,) = trainer.validate(module, validation)
print(f"validation loss {result['validation_loss']:.3f} nats per token")
