import torch
from torch import nn
from transformers import Trainer, TrainingArguments


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(4, 2)

    def forward(self, x, labels):
        logits = self.net(x)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


torch.manual_seed(0)
X = torch.randn(64, 4)
data = [{"x": x, "labels": (x[0] > 0).long()} for x in X]
arguments = TrainingArguments("out", max_steps=8, report_to=[], use_cpu=True, save_strategy="no",
                              disable_tqdm=True, per_device_train_batch_size=8, logging_steps=100)
Trainer(Model(), arguments, train_dataset=data).train()
