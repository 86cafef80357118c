"""Programs as people write them: what is right is let pass, and what is not is found through names and blocks."""

import pytest

from ratewise.doctor import examine_file

CLEAN = {
    "per epoch": """
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        scheduler = StepLR(optimizer, step_size=30)
        for epoch in range(90):
            for x, y in loader:
                loss(model(x), y).backward()
                optimizer.step()
            scheduler.step()
    """,
    "per batch": """
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        scheduler = OneCycleLR(optimizer, 0.1, total_steps=EPOCHS * len(loader))
        for epoch in range(EPOCHS):
            for x, y in loader:
                optimizer.step()
                scheduler.step()
    """,
    "accumulation": """
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        scheduler = CosineAnnealingLR(optimizer, T_max=EPOCHS * len(loader) // 4)
        for epoch in range(EPOCHS):
            for i, (x, y) in enumerate(loader):
                if (i + 1) % 4 == 0:
                    optimizer.step()
                    scheduler.step()
    """,
    "grad scaler": """
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        scheduler = CosineAnnealingLR(optimizer, T_max=EPOCHS)
        for epoch in range(EPOCHS):
            for x, y in loader:
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
            scheduler.step()
    """,
    "plateau": """
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scheduler = ReduceLROnPlateau(optimizer, patience=5)
        for epoch in range(90):
            optimizer.step()
            scheduler.step(validate())
    """,
    "two of each": """
        opt_a = torch.optim.SGD(a.parameters(), lr=0.1)
        opt_b = torch.optim.SGD(b.parameters(), lr=0.1)
        sched_a, sched_b = StepLR(opt_a, 30), StepLR(opt_b, 30)
        for epoch in range(90):
            for x in loader:
                opt_a.step()
                opt_b.step()
            sched_a.step()
            sched_b.step()
    """,
    "folds": """
        for fold in range(5):
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            scheduler = CosineAnnealingLR(optimizer, T_max=EPOCHS)
            for epoch in range(EPOCHS):
                optimizer.step()
                scheduler.step()
    """,
    "folds of known length": """
        for fold in range(5):
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            scheduler = CosineAnnealingLR(optimizer, T_max=10)
            for epoch in range(10):
                optimizer.step()
                scheduler.step()
    """,
    "a part of the run in a function": """
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        scheduler = OneCycleLR(optimizer, 0.1, total_steps=1000)
        def part():
            for batch in range(100):
                optimizer.step()
                scheduler.step()
        for epoch in range(10):
            part()
    """,
    "stopped early": """
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scheduler = CosineAnnealingLR(optimizer, T_max=10)
        for epoch in range(100):
            optimizer.step()
            scheduler.step()
            if done():
                break
    """,
    "skips the first": """
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scheduler = StepLR(optimizer, 30)
        for epoch in range(100):
            if epoch > 0:
                scheduler.step()
            optimizer.step()
    """,
    "warm-up and cosine": """
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scheduler = SequentialLR(
            optimizer,
            [LinearLR(optimizer, 0.01, total_iters=5), CosineAnnealingLR(optimizer, T_max=95)],
            milestones=[5],
        )
        for epoch in range(100):
            optimizer.step()
            scheduler.step()
    """,
    "lightning": """
        class Model(LightningModule):
            def configure_optimizers(self):
                optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr)
                scheduler = OneCycleLR(optimizer, self.lr, total_steps=self.trainer.estimated_stepping_batches)
                return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
    """,
    "either": """
        if args.adam:
            optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
        else:
            optimizer = torch.optim.SGD(model.parameters(), lr=args.lr)
        if args.schedule == "cosine":
            scheduler = CosineAnnealingLR(optimizer, T_max=args.epochs)
        else:
            scheduler = StepLR(optimizer, 30)
        for epoch in range(args.start, args.epochs):
            optimizer.step()
            scheduler.step()
    """,
    "resumed": """
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scheduler = LinearLR(optimizer)
        optimizer.load_state_dict(checkpoint["optimizer"])
        scheduler.load_state_dict(checkpoint["scheduler"])
    """,
    "hugging face": """
        optimizer = AdamW(model.parameters(), lr=5e-5)
        steps = EPOCHS * len(loader)
        scheduler = get_scheduler("linear", optimizer, num_warmup_steps=0, num_training_steps=steps)
        for epoch in range(EPOCHS):
            for batch in loader:
                optimizer.step()
                scheduler.step()
    """,
    "arguments": """
        args = TrainingArguments("out", warmup_ratio=0.1, lr_scheduler_type="cosine", max_steps=1000)
        other = TrainingArguments(**settings)
        third = TrainingArguments("out", warmup_steps=0.1, lr_scheduler_type=args.kind)
    """,
    "shadowed": """
        def int(x):
            return 0
        def LinearLR(optimizer, total_iters):
            return None
        scheduler = LinearLR(optimizer, total_iters=int(0.1))
    """,
}

FAULTS = {
    "through a class": (
        "stepped-per-update",
        """
        class Trainer:
            def __init__(self, model, epochs):
                self.epochs = epochs
                self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
                self.scheduler = CosineAnnealingLR(self.optimizer, T_max=self.epochs)

            def fit(self, loader):
                for epoch in range(self.epochs):
                    for batch in loader:
                        self.optimizer.step()
                        self.scheduler.step()
        """,
    ),
    "through a function": (
        "stepped-per-epoch",
        """
        def fit(model, optimizer, loader, epochs):
            scheduler = OneCycleLR(optimizer, 0.1, total_steps=epochs * len(loader))
            for epoch in range(epochs):
                for batch in loader:
                    optimizer.step()
                scheduler.step()
        """,
    ),
    "computed": (
        "T12",
        """
        EPOCHS, WARMUP = 100, 10
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scheduler = CosineAnnealingLR(optimizer, T_max=int(0.5 * (EPOCHS - WARMUP)))
        for epoch in tqdm(range(EPOCHS), desc="epochs"):
            optimizer.step()
            scheduler.step()
        """,
    ),
    "in the main block": (
        "stepped-per-update",
        """
        if __name__ == "__main__":
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            scheduler = CosineAnnealingLR(optimizer, T_max=10)
            for epoch in range(10):
                for batch in loader:
                    optimizer.step()
                    scheduler.step()
        """,
    ),
    "before the batches": (
        "scheduler-before-optimizer",
        """
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scheduler = StepLR(optimizer, 30)
        for epoch in range(90):
            scheduler.step()
            for batch in loader:
                scaler.step(optimizer)
        """,
    ),
    "a configuration in the program": (
        "D2",
        """
        config = {"optimizer": {"type": "AdamW"}, "scheduler": {"type": "WarmupCosineLR", "params": {}}}
        engine = deepspeed.initialize(model=model, config=config)
        """,
    ),
    "given in place": (
        "D2",
        """
        engine = deepspeed.initialize(model=model, config={"scheduler": {"type": "WarmupCosineLR", "params": {}}})
        """,
    ),
    "by another name": (
        "T10",
        """
        import torch.optim.lr_scheduler as ls
        scheduler = ls.LinearLR(optimizer, total_iters=0)
        """,
    ),
    "from tf": (
        "K4",
        """
        import tensorflow as tf
        rate = tf.keras.optimizers.schedules.CosineDecay(0.1, 100, warmup_steps=10)
        """,
    ),
}

IMPORTS = "import torch\nfrom torch.optim.lr_scheduler import *\nfrom transformers import *\n"


def warnings(text, folder):
    from textwrap import dedent

    path = folder / "train.py"
    path.write_text(IMPORTS + dedent(text))
    return [finding.code for finding in examine_file(path) if finding.level != "note"]


@pytest.mark.parametrize("name", CLEAN)
def test_a_good_program_has_no_warning(name, tmp_path):
    assert warnings(CLEAN[name], tmp_path) == []


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_seen(name, tmp_path):
    code, text = FAULTS[name]
    assert code in warnings(text, tmp_path)
