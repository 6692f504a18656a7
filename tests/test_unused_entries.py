"""What published files hold beside the model: a hub counts it, memory does not."""

import pytest

from llmplan.analyze.ledger import ledger
from llmplan.analyze.parameters import parameter_counts
from llmplan.analyze.validate import reconciled
from llmplan.model.catalogue import load_model

# totals of the hub; Kimi K3: a public count of the text tensors, packed weights unpacked
PUBLISHED = {
    "kimi-k2": (1_026_408_235_864, "rotary tables (rotary_emb.inv_freq)"),
    "kimi-k2-thinking": (1_026_408_240_256, "rotary tables (rotary_emb.inv_freq)"),
    "kimi-k3": (2_779_484_478_208, "padding of A_log"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_total_is_named_to_the_last_entry(name):
    published, words = PUBLISHED[name]
    model = load_model(name)

    check = reconciled(name, model, parameter_counts(model), published)

    assert (check.predicted, check.reason) == (published, f"parameters + buffers + {words}")


def test_unused_entries_take_no_memory():
    # bytes of all tensors in the published files, less two for each entry of the tables
    stored = ledger(load_model("kimi-k2")).without_mtp

    total = stored.elements_bytes + stored.scales_bytes + stored.buffers_bytes
    assert total == 1_029_173_256_720 - 2 * 3_416
