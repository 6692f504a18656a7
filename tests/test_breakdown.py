"""A step taken apart: what its rows add up to, and what they are bound by."""

import numpy as np
import pytest

from llmplan.analyze.breakdown import (
    Bound,
    decode_breakdown,
    first_token_terms,
    prompt_breakdown,
)
from llmplan.analyze.energy import energy
from llmplan.analyze.estimate import estimate
from llmplan.analyze.traffic import Deployed, PrefillPool, Scenario, Traffic
from llmplan.hardware.catalogue import load_device
from llmplan.model.catalogue import load_model
from llmplan.parallel.layout import Layout


def found(model="llama-3.1-8b", layout=None, workers=1, prefill=None, **traffic):
    """An estimate on H100."""
    deployed = Deployed(
        model=load_model(model).served(mtp=False, vision=False),
        layout=layout or Layout(),
        workers=workers,
        device=load_device("h100"),
        engine="vllm",
        slots=200,
        prefill=prefill,
    )
    return estimate(deployed, Traffic(**{"isl": 1024, "osl": 256, "concurrency": 32} | traffic))


@pytest.mark.parametrize(
    ("model", "layout"),
    [
        ("llama-3.1-8b", Layout()),
        ("llama-3.1-70b", Layout(tp=4, pp=2)),
        ("deepseek-v3", Layout(dp=8, ep=True)),
    ],
)
def test_rows_add_up_to_the_steps_of_the_estimate(model, layout):
    answer = found(model, layout)

    decode, prompt = decode_breakdown(answer), prompt_breakdown(answer)

    # rel=0.02: the estimate interpolates between nine batches, the rows are those of this batch
    assert decode.seconds == pytest.approx(float(answer.steady.step_s[0]), rel=0.02)
    assert prompt.seconds == pytest.approx(float(answer.steady.prompt_s[0]))


def test_chunks_of_a_prompt_are_calls_of_the_same_rows():
    whole, cut = (prompt_breakdown(found(isl=8192, step_tokens=t)) for t in (8192, 2048))

    calls = {row.name: row.count for row in whole.rows}
    assert all(row.count == 4 * calls[row.name] for row in cut.rows if row.kind == "gemm")


def test_decode_of_one_request_is_bound_by_memory_and_a_long_prompt_by_compute():
    decode = decode_breakdown(found(concurrency=1)).bound_share()
    prompt = prompt_breakdown(found(isl=8192)).bound_share()

    assert max(decode, key=decode.get) is Bound.MEMORY
    assert max(prompt, key=prompt.get) is Bound.COMPUTE


def test_a_decode_step_reads_weights_and_state_once():
    """Llama 3.1 8B: 8,030,261,248 parameters, 525,336,576 of them in the input table, of which a
    step reads one row; 131,072 bytes of keys and values a token; both in 16 bits."""
    step = decode_breakdown(found(concurrency=1))

    read_bytes = step.mbu_frac * step.seconds * load_device("h100").bandwidth_bytes_per_s
    weights_bytes = 2 * (8_030_261_248 - 525_336_576)
    # rel=0.001: norms are left to the caches, the new token's keys are written too
    assert read_bytes == pytest.approx(weights_bytes + 131_072 * (1024 + 128), rel=1e-3)


def test_terms_of_the_first_token_add_up():
    answer = found(concurrency=64)

    assert sum(term.seconds for term in first_token_terms(answer)) == pytest.approx(
        answer.ttft_s.value
    )


def test_nothing_is_said_of_a_queue_without_end():
    answer = found(concurrency=None, rate=1e6, scenario=Scenario.OPEN_LOOP)

    assert (answer.is_overloaded, first_token_terms(answer), energy(answer)) == (True, (), None)


def test_energy_of_a_token_is_draw_over_rate():
    answer = found(layout=Layout(tp=2), workers=4)

    drawn = energy(answer)

    assert drawn.gpu_w.value * 8 / answer.output_tokens_per_s.value == pytest.approx(
        drawn.token_j.value
    )
    assert drawn.gpu_w.low <= drawn.gpu_w.value <= drawn.gpu_w.high <= 700


def test_an_idle_deployment_draws_less_than_a_busy_one():
    drawn = [energy(found(workers=8, concurrency=n)).gpu_w.value for n in (1, 8, 256)]

    assert np.all(np.diff(drawn) > 0)


def test_pools_draw_together():
    pool = PrefillPool(layout=Layout(tp=1), workers=2)

    drawn = energy(found(layout=Layout(tp=1), workers=2, prefill=pool))

    assert 0 < drawn.gpu_w.low < drawn.gpu_w.high <= 700
