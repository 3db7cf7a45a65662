"""The loss of a row: the model's body on all tokens, the LM head only on the rows that predict an answer token."""

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from hybrid.errors import TrainingError
from hybrid.kernels.linear_cross_entropy import linear_cross_entropy
from hybrid.tuning.batch import TreeBatch, collate, to_device
from hybrid.tuning.tree import Example, build_trees


def causal_lm(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """Returns the transformers model inside a PEFT model, or the model itself."""
    inner: PreTrainedModel = model.get_base_model() if isinstance(model, PeftModel) else model
    return inner


def predicting_rows(model: PreTrainedModel | PeftModel, batch: TreeBatch) -> Tensor:
    """Returns the final hidden states [M, H] of the rows that predict a target; attention must be `hybrid_tree`."""
    body = causal_lm(model).base_model
    output = body(input_ids=batch.input_ids, position_ids=batch.position_ids, layout=batch.layout, use_cache=False)
    hidden_LH: Tensor = output.last_hidden_state[0]
    return hidden_LH.index_select(0, batch.predict_index)


def row_loss(model: PreTrainedModel | PeftModel, batch: TreeBatch) -> Tensor:
    """Returns the weighted sum of the negative log likelihoods of a row's answer tokens.

    Raises:
        TrainingError: The LM head is not a linear layer without bias.
    """
    head: object = causal_lm(model).get_output_embeddings()  # type: ignore[no-untyped-call]
    if not isinstance(head, nn.Linear) or "bias" in dict(head.named_parameters()):
        raise TrainingError(f"tuning needs an LM head that is a linear layer without bias, but this one is {head}")
    softcap = getattr(causal_lm(model).config, "final_logit_softcapping", None)
    hidden_MH = predicting_rows(model, batch)
    return linear_cross_entropy(hidden_MH, head.weight, batch.targets, batch.weights, softcap=softcap)


@torch.no_grad()
def check_parity(model: PreTrainedModel) -> None:
    """Compares the loss of a small tree with the model's own forward pass on its branches, one by one.

    Settings that `hybrid_tree` does not know of, in an architecture that it was never tried on, show up here instead
    of in a model that is quietly worse.

    Args:
        model: With `hybrid_tree` attention, in training mode.

    Raises:
        TrainingError: The losses differ by more than rounding.
    """
    prompts = [(2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 2 + branch, 12) for branch in range(3)]
    examples = [Example(str(index), "", prompt, (13, 14, 15)) for index, prompt in enumerate(prompts)]
    batch = collate(tuple(build_trees(examples, max_tokens=64)))
    found = row_loss(model, to_device(batch, model.device)).item()
    name = model.config._attn_implementation
    model.set_attn_implementation("eager")  # every architecture has it
    wanted = 0.0
    for example in examples:
        ids_L = torch.tensor(example.prompt_ids + example.answer_ids, device=model.device)
        logits_NV = model(input_ids=ids_L.unsqueeze(0), use_cache=False).logits[0, len(example.prompt_ids) - 1 : -1]
        wanted += cross_entropy(logits_NV.float(), ids_L[len(example.prompt_ids) :], reduction="sum").item()
    model.set_attn_implementation(name)
    tolerance = 1e-3 if model.dtype is torch.float32 else 5e-2
    if not abs(found - wanted) <= tolerance * abs(wanted):
        raise TrainingError(
            f"tuning does not support {model.config.model_type!r} models: on a small tree their loss is {found:.6g},"
            f" on separate samples {wanted:.6g}"
        )
