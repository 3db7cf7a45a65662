"""Fine-tuning on retrieved context: context trees, tree attention, LoRA and QLoRA models, trainer and export.

Import from the modules: ``hybrid.tuning.settings`` holds the settings and loads no torch, ``hybrid.tuning.tree`` the
data, ``hybrid.tuning.trainer`` the function ``tune``, ``hybrid.tuning.model`` the loader of base and tuned models.
"""
