"""Direct preference optimisation: reference log-probabilities computed once before training, no dropout anywhere."""
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


@dataclass
class Arguments:
    beta: float = 0.3
    lr: float = 2e-3
    epochs: int = 4
    batch: int = 16


class Preferences(Dataset):
    def __init__(self, n=160, seed=0):
        g = torch.Generator().manual_seed(seed)
        prompt = torch.randint(2, 20, (n, 4), generator=g)
        good = (prompt + 1).clamp(max=19)
        bad = torch.randint(2, 20, (n, 4), generator=g)
        lengths = torch.randint(2, 5, (n,), generator=g)
        mask = torch.arange(4) < lengths[:, None]
        self.rows = [
            {"prompt": p, "chosen": c, "rejected": r, "mask": m} for p, c, r, m in zip(prompt, good, bad, mask)
        ]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


class Model(nn.Module):
    def __init__(self, vocab=20, d=32):
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocab, d, padding_idx=0), nn.Embedding(8, d)
        layer = nn.TransformerEncoderLayer(d, 4, 64, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(d, vocab)

    def forward(self, ids):
        x = self.tokens(ids) + self.places(torch.arange(ids.size(1)))
        causal = nn.Transformer.generate_square_subsequent_mask(ids.size(1))
        return self.head(self.layers(x, mask=causal, is_causal=True))


def sequence_logps(model, prompt, answer, mask):
    ids = torch.cat([prompt, answer], 1)
    logits = model(ids)[:, prompt.size(1) - 1 : -1]
    picked = torch.gather(logits.log_softmax(-1), 2, answer.unsqueeze(-1)).squeeze(-1)
    return (picked * mask).sum(-1)


def concatenated(model, batch):
    both = [torch.cat([batch["prompt"]] * 2), torch.cat([batch["chosen"], batch["rejected"]])]
    return sequence_logps(model, *both, torch.cat([batch["mask"]] * 2)).chunk(2)


def precompute(model, data):
    model.eval()
    with torch.inference_mode():
        for batch, rows in zip(DataLoader(data, 40), range(0, len(data), 40)):
            chosen, rejected = concatenated(model, batch)
            for offset, (c, r) in enumerate(zip(chosen.tolist(), rejected.tolist())):
                data.rows[rows + offset] |= {"ref_chosen": c, "ref_rejected": r}


def main(args=Arguments()):
    torch.manual_seed(7)
    data, model = Preferences(), Model()
    precompute(model, data)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    loader = DataLoader(data, args.batch, shuffle=True)
    for epoch in range(args.epochs):
        margin = 0.0
        for batch in loader:
            chosen, rejected = concatenated(model, batch)
            logits = (chosen - rejected) - (batch["ref_chosen"] - batch["ref_rejected"]).float()
            loss = -F.logsigmoid(args.beta * logits).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            margin += logits.detach().mean().item()
        print(f"epoch {epoch} loss {loss.item():.3f} margin {margin / len(loader):.2f}")


main()
