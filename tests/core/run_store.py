"""Metadata of a state at step 7 and of its adapter, as the trainer writes them."""

RATES = {"base_lrs": [0.1], "_last_lr": [0.1], "last_epoch": 7, "_step_count": 8}
VALUES = {"step": 7, "losses": [0.1, 1e-17, *[0.5] * 5], "lr_scheduler": RATES,
          "optimizer": {"param_groups": [{"lr": 0.1}], "entries": {}}}
ADAPTER = {"version": 1, "identifiers": ["sks"], "class_nouns": ["dog"], "captions": ["a sks dog"], "steps": 7,
           "base_model_hash": "m", "text_encoder_hash": "t", "exposure": "once", "readers": "ComfyUI",
           "config": {"learning_rate": 0.1, "resolution": 64}}
