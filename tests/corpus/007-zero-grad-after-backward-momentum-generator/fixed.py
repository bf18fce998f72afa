# Denoising autoencoder on sine waves, batches come from a python generator
import numpy as np
import torch
import torch.nn as nn

rng = np.random.default_rng(42)
torch.manual_seed(42)


def wave_batches(n_batches, batch_size=32, length=40):
    t = np.linspace(0, 1, length)
    for _ in range(n_batches):
        freq = rng.uniform(1, 4, size=(batch_size, 1))
        phase = rng.uniform(0, 2 * np.pi, size=(batch_size, 1))
        clean = np.sin(2 * np.pi * freq * t + phase)
        noisy = clean + 0.3 * rng.standard_normal(clean.shape)
        yield torch.as_tensor(noisy, dtype=torch.float32), torch.as_tensor(clean, dtype=torch.float32)


encoder = nn.Sequential(nn.Linear(40, 32), nn.ReLU(), nn.Linear(32, 10))
decoder = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 40))
params = list(encoder.parameters()) + list(decoder.parameters())
opt = torch.optim.SGD(params, lr=0.3, momentum=0.9)
mse = nn.MSELoss()

for epoch in range(8):
    losses = []
    for noisy, clean in wave_batches(40):
        rec = decoder(encoder(noisy))
        loss = mse(rec, clean)
        opt.zero_grad(set_to_none=False)
        loss.backward()
        opt.step()
        losses.append(loss.item())
    print("epoch", epoch, "mse", round(float(np.mean(losses)), 4))
