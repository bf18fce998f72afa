import numpy as np
import torch
import torch.nn as nn
from sklearn.datasets import load_wine
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler


def build_model():
    return nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 3))


def train_fold(model, optimizer, X, y, epochs=12):
    criterion = nn.CrossEntropyLoss()
    model.train()
    for epoch in range(epochs):
        idx = torch.randperm(len(X))
        for batch in torch.split(idx, 20):
            optimizer.zero_grad()
            loss = criterion(model(X[batch]), y[batch])
            loss.backward()
            optimizer.step()
    return loss.item()


def main():
    torch.manual_seed(0)
    X, y = load_wine(return_X_y=True)
    kf = KFold(n_splits=4, shuffle=True, random_state=0)
    results = []
    for fold, (train_idx, test_idx) in enumerate(kf.split(X)):
        model = build_model()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
        sc = StandardScaler().fit(X[train_idx])
        Xtr = torch.tensor(sc.transform(X[train_idx]), dtype=torch.float32)
        Xte = torch.tensor(sc.transform(X[test_idx]), dtype=torch.float32)
        last = train_fold(model, optimizer, Xtr, torch.tensor(y[train_idx]))
        model.eval()
        with torch.no_grad():
            acc = (model(Xte).argmax(1).numpy() == y[test_idx]).mean()
        results.append(acc)
        print("fold %d | last loss %.3f | accuracy %.3f" % (fold, last, acc))
    print("mean accuracy %.3f" % np.mean(results))


if __name__ == "__main__":
    main()
