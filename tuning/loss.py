"""The loss of a row: the model's body on all tokens, the LM head only on the rows that predict an answer token."""

from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from hybrid.errors import TrainingError
from hybrid.kernels.linear_cross_entropy import linear_cross_entropy
from hybrid.tuning.batch import TreeBatch


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
    head: nn.Module | None = causal_lm(model).get_output_embeddings()  # type: ignore[no-untyped-call]
    if not isinstance(head, nn.Linear) or head.bias is not None:
        raise TrainingError(f"tuning supports an LM head that is linear without bias, but this one is {head}")
    return linear_cross_entropy(predicting_rows(model, batch), head.weight, batch.targets, batch.weights)
