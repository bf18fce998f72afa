# In[1]:
import torch
import torch.nn as nn
from sklearn.datasets import make_circles

# In[2]:
torch.manual_seed(69)
X, y = make_circles(500, noise=0.08, factor=0.5, random_state=0)
X = torch.tensor(X).float(); y = torch.tensor(y).float().reshape(-1, 1)

# In[3]: first try, too small
model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
opt = torch.optim.SGD(model.parameters(), lr=0.1)
lossf = nn.BCEWithLogitsLoss()
for i in range(100):
    opt.zero_grad(); loss = lossf(model(X), y); loss.backward(); opt.step()
print(loss.item())

# In[7]: a wider one
model = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 1))
opt = torch.optim.Adam(model.parameters(), lr=0.01)

# In[8]:
hist = []
for i in range(150):
    opt.zero_grad()
    loss = lossf(model(X), y)
    loss.backward()
    opt.step()
    hist.append(loss.item())
print(hist[0], hist[-1])

# In[9]: continue with a lower lr
opt.param_groups[0]["lr"] = 1e-3
for i in range(50):
    opt.zero_grad()
    loss = lossf(model(X), y)
    loss.backward()
    opt.step()

# In[10]:
with torch.no_grad():
    print(((model(X) > 0) == (y > 0.5)).float().mean())
