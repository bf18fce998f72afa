import numpy as np
import torch
import torch.nn as nn
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_wine
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


class NeuralNetClassifier(ClassifierMixin, BaseEstimator):
    def __init__(self, hidden=16, lr=0.01, max_epochs=8, batch_size=16, seed=67):
        self.hidden, self.lr, self.max_epochs, self.batch_size, self.seed = hidden, lr, max_epochs, batch_size, seed

    def fit(self, X, y):
        torch.manual_seed(self.seed)
        self.classes_ = np.unique(y)
        X, t = torch.as_tensor(X, dtype=torch.float32), torch.as_tensor(np.searchsorted(self.classes_, y))
        self.module_ = nn.Sequential(nn.Linear(X.shape[1], self.hidden), nn.ReLU(), nn.Dropout(0.1),
                                     nn.Linear(self.hidden, len(self.classes_)))
        self.optimizer_ = torch.optim.Adam(self.module_.parameters(), lr=self.lr)
        self.module_.train()
        for _ in range(self.max_epochs):
            for i in torch.randperm(len(X)).split(self.batch_size):
                self.optimizer_.zero_grad()
                loss = nn.functional.cross_entropy(self.module_(X[i]), t[i])
                loss.backward()
                self.optimizer_.step()
        return self

    def predict(self, X):
        self.module_.eval()
        with torch.inference_mode():
            return self.classes_[self.module_(torch.as_tensor(X, dtype=torch.float32)).argmax(1).numpy()]


X, y = load_wine(return_X_y=True)
print("accuracy", cross_val_score(make_pipeline(StandardScaler(), NeuralNetClassifier()), X, y, cv=3))
