"""Group-relative policy optimisation of a toy language model: sampled answers, clipped ratios, a frozen reference."""
import copy

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
VOCAB, PROMPT, ANSWER, GROUP = 12, 3, 4, 8


class Policy(nn.Module):
    def __init__(self, d=32):
        super().__init__()
        self.emb = nn.Embedding(VOCAB, d)
        self.rnn = nn.GRU(d, d, batch_first=True)
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(d, VOCAB)

    def forward(self, ids):
        return self.head(self.drop(self.rnn(self.emb(ids))[0]))


def reward(prompts, answers):
    """How many tokens of the answer are the prompt's sum."""
    return (answers == (prompts.sum(1) % VOCAB)[:, None]).float().mean(1)


@torch.no_grad()
def generate(policy, prompts):
    policy.eval()
    ids = prompts
    for _ in range(ANSWER):
        logits = policy(ids)[:, -1]
        ids = torch.cat([ids, torch.multinomial(logits.softmax(-1), 1)], 1)
    return ids


def log_probs(policy, ids):
    logits = policy(ids[:, :-1])[:, PROMPT - 1 :]
    return logits.log_softmax(-1).gather(-1, ids[:, PROMPT:, None]).squeeze(-1)


policy = Policy()
reference = copy.deepcopy(policy).eval().requires_grad_(False)
optimizer = torch.optim.AdamW(policy.parameters(), lr=3e-3, weight_decay=0.0)

for iteration in range(15):
    prompts = torch.randint(VOCAB, (6, PROMPT)).repeat_interleave(GROUP, 0)
    ids = generate(policy, prompts)
    r = reward(prompts, ids[:, PROMPT:]).view(-1, GROUP)
    advantage = ((r - r.mean(1, keepdim=True)) / (r.std(1, keepdim=True) + 1e-4)).view(-1, 1)
    with torch.no_grad():
        old = log_probs(policy, ids)
        ref = log_probs(reference, ids)
    policy.train()
    for inner in range(3):
        for rows in torch.randperm(len(ids)).chunk(2):
            new = log_probs(policy, ids[rows])
            ratio = (new - old[rows]).exp()
            gain = torch.min(ratio * advantage[rows], ratio.clamp(0.8, 1.2) * advantage[rows])
            gap = ref[rows] - new
            kl = gap.exp() - gap - 1
            loss = -(gain - 0.02 * kl).mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            optimizer.step()
    if iteration % 5 == 0:
        print(f"{iteration} reward {r.mean():.3f} kl {kl.mean().item():.4f}")
