"""What is held beside a model and in host memory, against arithmetic written out by hand."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmplan.analyze.arrange import Wanted
from llmplan.analyze.beside import Beside, adapter_elements
from llmplan.analyze.fit import Deployment, Question, answer
from llmplan.analyze.memory import Load, weights_bytes
from llmplan.analyze.offload import halves
from llmplan.engines.profile import profile_of
from llmplan.engines.settings import Settings
from llmplan.errors import InputError, LayoutError
from llmplan.hardware.catalogue import parse_gpus
from llmplan.model.catalogue import load_model
from llmplan.model.compiled import Model
from llmplan.ops.moe import Experts
from llmplan.ops.precision import Role
from llmplan.parallel.precision import lowered
from llmplan.results.beside_options import BesideOptions
from llmplan.results.common import SIXTEEN_BITS
from llmplan.units import GIB
from tests.program import llmplan

DENSE = (Role.ATTENTION, Role.FFN, Role.SHARED_EXPERTS)


def question(model: str, gpus: str, **changes: Any) -> Question:
    """One request of 8,192 tokens; ``engine`` and ``tp`` by name, all else as a question has it."""
    engine, tp = changes.pop("engine", "generic"), changes.pop("tp", None)
    return replace(
        Question(
            model=load_model(model).served(),
            weights="native",
            states=SIXTEEN_BITS,
            group=parse_gpus(gpus),
            load=Load(8192, 1),
            wanted=Wanted(tp=tp),
            profile=profile_of(engine),
            settings=Settings(),
        ),
        **changes,
    )


def deployed(model: str, gpus: str, **changes: Any) -> Deployment:
    best = answer(question(model, gpus, **changes)).best
    assert best is not None
    return best


def adapted(count: int, rank: int) -> Settings:
    return Settings(enable_lora=True, max_loras=count, max_lora_rank=rank)


def items(deployment: Deployment) -> dict[str, int]:
    return {i.name: i.term.bytes for i in deployment.serving.worst.beside.items}


def as_json(*arguments: str) -> dict:
    outcome = llmplan(*arguments, "--format", "json")
    assert outcome.exit_code in (0, 1), outcome.stderr
    return json.loads(outcome.stdout)["result"]


# -- adapters ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # peft's print_trainable_parameters, rank 16, all linear layers; widely logged
        ("llama-3.1-8b", 41_943_040),
        # Unsloth's log of the same for Llama-3.2-3B: 24,313,856 of 3,237,063,680
        ("llama-3.2-3b", 24_313_856),
    ],
)
def test_adapters_have_as_many_parameters_as_trainers_print(name, parameters):
    counted = load_model(name).decoder.counted

    assert sum(adapter_elements(o, DENSE, 16) * n for o, n in counted) == parameters


def test_a_rank_holds_its_part_of_one_half_and_the_other_half_whole():
    """Llama-3.1-8B over 2 ranks: outputs of q, k, v, gate and up are divided, inputs of o and down.

    4096 wide; 2 x 2048 of queries, 2 x 512 of keys and values, 2 x 7168 of the network.
    """
    q, kv, o = 4096 + 2048, 2 * (4096 + 512), 2048 + 4096
    network = 2 * (4096 + 7168) + (7168 + 4096)
    a_slot = 32 * 16 * (q + kv + o + network) * 2

    split = deployed("llama-3.1-8b", "2xh100", settings=adapted(3, 16), engine="vllm@0.19", tp=2)

    assert items(split) == {"adapters": 3 * a_slot}


def test_each_routed_expert_has_adapters_of_its_own():
    """Qwen3-30B-A3B: 48 layers, 128 experts of three 2048 x 768 matrices; rank 8, 16 bits."""
    slots = adapted(1, 8)
    whole = deployed(
        "qwen3-30b-a3b", "h100", settings=slots, beside=Beside(lora_targets=(Role.EXPERTS,))
    )

    assert items(whole) == {"adapters": 48 * 128 * 3 * 8 * (2048 + 768) * 2}


@pytest.mark.parametrize("engine", ["generic", "vllm@0.19", "sglang@0.5.10"])
def test_the_cache_gives_way_to_adapters_byte_by_byte(engine):
    alone = deployed("llama-3.1-8b", "h100", engine=engine)
    both = deployed("llama-3.1-8b", "h100", settings=adapted(4, 64), engine=engine)

    assert alone.pool_bytes - both.pool_bytes == 4 * 64 // 16 * 41_943_040 * 2
    assert both.serving.worst.plan.held.beside.bytes == alone.pool_bytes - both.pool_bytes


@settings(max_examples=25, deadline=None)
@given(
    few=st.integers(1, 64),
    more=st.integers(0, 64),
    rank=st.integers(1, 512),
    engine=st.sampled_from(["generic", "vllm@0.19"]),
)
def test_more_adapters_never_leave_more_cache(few, more, rank, engine):
    some = deployed("llama-3.1-8b", "h100", settings=adapted(few, rank), engine=engine)
    many = deployed("llama-3.1-8b", "h100", settings=adapted(few + more, rank), engine=engine)

    assert many.pool_bytes <= some.pool_bytes
    assert many.max_concurrency <= some.max_concurrency
    assert many.max_context <= some.max_context


# -- draft models and logits ---------------------------------------------------------------------


def draft(name: str) -> Model:
    return lowered(load_model(name).served(), "native", SIXTEEN_BITS)


def test_a_draft_model_takes_its_weights_and_its_cache_of_every_request():
    """Llama-3.2-1B: 16 layers of 8 KV heads of 64, keys and values of 2 bytes."""
    alone = deployed("llama-3.1-70b", "4xh100", tp=4)
    both = deployed("llama-3.1-70b", "4xh100", beside=Beside(draft=draft("llama-3.2-1b")), tp=4)
    own = 16 * 2 * (8 // 4) * 64 * 2

    assert both.request_bytes(8192) - alone.request_bytes(8192) == 8192 * own
    assert alone.pool_bytes - both.pool_bytes == items(both)["draft model"]


def test_a_draft_model_on_one_gpu_is_as_large_as_its_files():
    both = deployed("llama-3.1-8b", "h100", beside=Beside(draft=draft("llama-3.2-1b")))

    # 1,235,814,400 parameters of 2 bytes: the safetensors of Llama-3.2-1B
    assert items(both) == {"draft model": 2 * 1_235_814_400}


def test_logits_of_prompts_are_fp32_over_the_vocabulary():
    both = deployed("llama-3.1-8b", "h100", beside=Beside(prompt_logits=True), engine="vllm@0.19")

    assert items(both) == {"prompt logits": 8192 * 128_256 * 4}


# -- host memory ---------------------------------------------------------------------------------

EXPERTS_OF_V3 = 58 * 256 * 3 * 2048 * 7168
"""Entries of DeepSeek-V3's routed experts."""


def test_experts_in_host_memory_are_counted_to_the_byte():
    """int4 in groups of 128 with a 16-bit scale and a 4-bit zero point: 4 + 20/128 bits."""
    asked = Settings(experts_on_cpu=True)
    best = deployed("deepseek-v3", "rtx-4090", settings=asked, weights="int4",
                    beside=Beside(host_memory_bytes=512 * GIB))  # fmt: skip

    assert best.fits
    assert best.host is not None
    assert best.host.weights_bytes * 8 * 128 == EXPERTS_OF_V3 * (4 * 128 + 20)
    assert best.host.read_bytes_per_token * 256 == best.host.weights_bytes * 8
    # PCIe 4.0 x16 of the catalogue: 32 GB/s
    assert best.host.seconds_per_token == best.host.read_bytes_per_token / 32e9
    whole = lowered(load_model("deepseek-v3").served(), "int4", SIXTEEN_BITS)
    assert best.weights_bytes + best.host.weights_bytes == weights_bytes(whole)


def test_a_host_that_is_too_small_is_a_no():
    asked = Settings(experts_on_cpu=True)
    best = deployed("deepseek-v3", "rtx-4090", settings=asked, weights="int4",
                    beside=Beside(host_memory_bytes=256 * GIB))  # fmt: skip

    assert not best.fits
    assert best.binding.value == "host_memory"
    assert best.reason.startswith("what stays in host memory needs 316.39 GiB a node")


@pytest.mark.parametrize("name", ["llama-3.1-8b", "deepseek-v3", "gemma-2-9b"])
@pytest.mark.parametrize("asked", [{"n_gpu_layers": 9}, {"experts_on_cpu_layers": 5}])
def test_two_halves_make_the_model(name, asked):
    model = load_model(name).served()
    split = halves(model, Settings(**asked))

    assert weights_bytes(split.on_gpu) + weights_bytes(split.on_host) == weights_bytes(model)


def test_layers_count_from_the_end_and_the_head_is_one_of_them():
    """llama.cpp: of L layers the first L + 1 - n stay in host memory."""
    model = load_model("llama-3.1-8b").served()

    assert not halves(model, Settings(n_gpu_layers=33)).is_split
    assert halves(model, Settings(n_gpu_layers=32)).first_layer == 1
    assert len(halves(model, Settings(n_gpu_layers=9)).on_gpu.decoder.layers) == 8
    with pytest.raises(LayoutError, match="leaves no layer on a GPU"):
        halves(model, Settings(n_gpu_layers=1))


def test_a_layer_in_host_memory_has_its_cache_there():
    best = deployed("llama-3.1-8b", "rtx-4090", settings=Settings(n_gpu_layers=17))
    whole = deployed("llama-3.1-8b", "rtx-4090")

    assert best.host is not None
    assert best.request_bytes(8192) * 2 == whole.request_bytes(8192)
    assert best.host.state_bytes == best.request_bytes(8192)


def test_every_slot_of_llamacpp_has_its_cache_in_host_memory():
    """Llama-3.1-8B, 16 of 32 layers there: half of 128 KiB a token, 4 slots of 8,192 tokens."""
    asked = Settings(n_gpu_layers=17, max_num_seqs=4, max_model_len=8192)
    best = deployed("llama-3.1-8b", "rtx-4090", settings=asked, engine="llama.cpp")

    assert best.host is not None
    assert best.host.state_bytes == 4 * 8192 * 64 * 1024
    # the table of inputs stays there too: 128,256 x 4,096 of 2 bytes
    layers = 16 * (4096 * (2 * 4096 + 2 * 1024) + 3 * 4096 * 14_336 + 2 * 4096) * 2
    assert best.host.weights_bytes == layers + 128_256 * 4096 * 2


def test_the_first_layers_alone_may_leave_their_experts():
    model = load_model("deepseek-v3").served()
    split = halves(model, Settings(experts_on_cpu_layers=10))

    # the first three have none
    assert sum(n for o, n in split.on_host.counted() if isinstance(o, Experts)) == 7


def test_a_size_of_weights_leaves_each_gpu():
    asked = Settings(cpu_offload_bytes=4 * GIB)
    best = deployed("llama-3.1-8b", "2xh100", settings=asked, tp=2)
    whole = deployed("llama-3.1-8b", "2xh100", tp=2)

    assert whole.weights_bytes - best.weights_bytes == 4 * GIB
    assert best.host is not None
    assert best.host.weights_bytes == 2 * 4 * GIB


def test_a_tier_holds_requests_and_leaves_the_verdict_alone():
    """Llama-3.1-8B keeps 128 KiB a token: 64 GiB are 64 requests of 8,192 tokens."""
    plain = deployed("llama-3.1-8b", "h100")
    tiered = deployed("llama-3.1-8b", "h100", beside=Beside(tier_bytes=64 * GIB))

    assert tiered.host is not None
    assert (tiered.host.tier.requests, tiered.host.tier.tokens) == (64, 64 * 8192)
    assert tiered.max_concurrency == plain.max_concurrency
    assert not tiered.host.weights_bytes


def test_the_command_answers_with_host_and_what_stays():
    row = as_json("fit", "deepseek-v3", "--gpus", "rtx-4090", "--dtype", "int4",
                  "--experts-on-cpu", "--host-memory", "512GiB")["deployments"][0]  # fmt: skip

    assert row["fits"]
    assert row["host"]["fits"]
    assert "experts" not in row["host"]["stays_on_gpu"]
    assert {"attention", "shared_experts", "router", "head", "cache"} <= set(
        row["host"]["stays_on_gpu"]
    )


def test_experts_in_host_memory_are_suggested_last():
    row = as_json("fit", "deepseek-v3", "--gpus", "rtx-4090", "--dtype", "int4")["deployments"][0]

    assert row["try"][-1]["option"] == "--experts-on-cpu"


def test_memory_lists_what_is_beside_the_model():
    result = as_json("memory", "llama-3.1-8b", "--gpus", "h100", "--lora", "4", "--draft",
                     "llama-3.2-1b", "--kv-offload", "64GiB")  # fmt: skip
    rows = {row["name"]: row["bytes"] for row in result["beside"]}

    assert rows["adapters"] == 4 * 83_886_080
    assert result["per_gpu"]["beside_bytes"] == rows["adapters"] + rows["draft model"]
    assert result["host"]["tier_bytes"] == 64 * GIB


def test_every_form_of_output_names_what_is_beside_the_model():
    asked = ("memory", "llama-3.1-8b", "--gpus", "h100", "--lora", "4", "--kv-offload", "1GiB")
    said = {f: llmplan(*asked, "--format", f).stdout for f in ("table", "md", "csv", "html")}

    assert "beside.0.bytes,335544320" in said["csv"]
    for form in ("table", "md", "html"):
        assert "Beside the model" in said[form]
        assert "In the host memory of each node" in said[form]


def test_explanations_subtract_what_is_beside_the_model():
    result = as_json("memory", "llama-3.1-8b", "--gpus", "h100", "--lora", "4", "--explain")
    rows = {row["quantity"]: row for row in result["explain"]}
    first, *rest = rows["per_gpu.kv_available_bytes"]["values"].replace(",", "").split(" - ")

    left = result["per_gpu"]["kv_available_bytes"]
    assert int(first) - sum(map(int, rest)) == left
    assert rows["per_gpu.beside_bytes"]["result"].startswith("335,544,320 bytes")


def test_a_pasted_command_says_the_same():
    command = "vllm serve meta-llama/Llama-3.1-8B --enable-lora --max-loras 2 --max-lora-rank 32"
    result = as_json("memory", "--from-command", command, "--gpus", "h100")

    assert [row["bytes"] for row in result["beside"]] == [2 * 2 * 83_886_080]


# -- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--gpus gb10 --cpu-offload 4GiB", "share one memory"),
        ("--gpus m4-max --gpu-layers 20", "share one memory"),
        ("--gpus gb10 --kv-offload 4GiB", "share one memory"),
        ("--gpus h100 --engine vllm --gpu-layers 20", "does not keep chosen layers"),
        ("--gpus h100 --engine llama.cpp --cpu-offload 4GiB", "--gpu-layers and --experts-on-cpu"),
        ("--gpus h100 --experts-on-cpu", "has no routed experts"),
        ("--gpus h100 --lora-rank 8", "say --lora"),
        ("--gpus h100 --draft-dtype fp8", "name it with --draft"),
        ("--gpus h100 --lora 2 --lora-targets head", "attention, ffn, experts"),
        ("--gpus h100 --engine trtllm --lora 2", "is not described"),
        ("--gpus h100 --engine sglang --lora 2", "--lora-rank"),
        ("--gpus h100 --engine sglang --draft llama-3.2-1b", "is not described"),
        ("--gpus h100 --host-memory 512", "512"),
        ("--lora 2", "needs GPUs"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(arguments, words):
    outcome = llmplan("memory", "llama-3.1-8b", *arguments.split())

    assert outcome.exit_code == 2
    assert words in outcome.stderr


def test_matrices_that_are_no_plain_ones_have_no_known_adapters():
    found = answer(question("deepseek-v4-flash", "8xb200", settings=adapted(1, 8)))

    assert not found.deployments
    assert "no plain matrix" in found.refusals[0].reason


def test_a_draft_model_of_a_pasted_command_that_is_not_known_is_said():
    command = ("vllm serve meta-llama/Llama-3.1-8B --speculative-config "
               '\'{"model": "acme/unknown-draft", "num_speculative_tokens": 3}\'')  # fmt: skip
    outcome = llmplan("memory", "--from-command", command, "--gpus", "h100")

    assert "acme/unknown-draft is not counted" in outcome.stderr


def test_nothing_typed_asks_for_nothing():
    assert not BesideOptions().is_given
    with pytest.raises(InputError):
        BesideOptions(lora_rank=8).settings(Settings())
