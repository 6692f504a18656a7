"""Start commands of engines, as people paste them."""

import contextlib
import json
import shlex
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmplan.engines.flag_kinds import Flag
from llmplan.engines.flag_reader import normal
from llmplan.engines.flags import TABLES, flag_of, parse_command
from llmplan.engines.settings import SETTING_NAMES, EngineName, Launch, Settings
from llmplan.errors import InputError, LlmplanError, UnknownNameError

VLLM, SGLANG, TRTLLM, LLAMACPP = list(EngineName)[1:]


def launch(engine, model, *, version=None, ignored=(), unread=(), **said):
    return Launch(engine, version, model, Settings(**said), tuple(ignored), tuple(unread))


COMMANDS = {
    "vLLM, short flags and JSON": (
        """vllm serve deepseek-ai/DeepSeek-V3 --tensor-parallel-size 8 -tp 8 -dp 2 -dcp=4 -pcp 2 \\
             --gpu-memory-utilization=0.92 --max-model-len 128k --kv-cache-dtype fp8 \\
             --enable-expert-parallel --no-enable-prefix-caching --cpu-offload-gb 10.5 -O3 \\
             --speculative-config '{"method":"mtp","num_speculative_tokens":3}' \\
             --compilation-config \\
             '{"cudagraph_mode":"PIECEWISE","cudagraph_capture_sizes":[1,8]}' \\
             --trust-remote-code --tool-call-parser deepseek_v3 --api-key secret --port 8000""",
        launch(
            VLLM,
            "deepseek-ai/DeepSeek-V3",
            ignored=("--trust-remote-code", "--tool-call-parser", "--api-key", "--port"),
            tensor_parallel=8,
            data_parallel=2,
            decode_context_parallel=4,
            prefill_context_parallel=2,
            memory_frac=0.92,
            max_model_len=128_000,
            kv_dtype="fp8",
            expert_parallel=True,
            enable_prefix_caching=False,
            cpu_offload_bytes=21 * 2**29,
            optimization_level=3,
            speculative_method="mtp",
            speculative_tokens=3,
            cudagraph_mode="PIECEWISE",
            num_captures=2,
            max_capture_batch=8,
        ),
    ),
    "vLLM, capitals are binary, keys with dots, underscores": (
        (
            "python -m vllm.entrypoints.openai.api_server --model X --max_model_len 128K "
            "-sc.method=qwen3_next_mtp --speculative-config.num_speculative_tokens 2 "
            '--limit-mm-per-prompt \'{"image": 0, "video": 0}\' --kv-cache-memory-bytes 1.5g '
            "--language-model-only --enable-chunked-prefill False --max-num-batched-tokens 16384"
        ),
        launch(
            VLLM,
            "X",
            max_model_len=131_072,
            speculative_method="mtp",
            speculative_tokens=2,
            images_per_prompt=0,
            videos_per_prompt=0,
            kv_cache_memory_bytes=1_500_000_000,
            language_model_only=True,
            enable_chunked_prefill=False,
            max_num_batched_tokens=16384,
        ),
    ),
    "vLLM, adapters, variables before it, output kept": (
        (
            "CUDA_VISIBLE_DEVICES=0,1 VLLM_LOGGING_LEVEL=DEBUG vllm serve X --enable-lora "
            "--max-loras 4 --max-lora-rank 64 --lora-modules a=/a b=/b -tp 2 2>&1 | tee log.txt"
        ),
        launch(
            VLLM,
            "X",
            ignored=("VLLM_LOGGING_LEVEL", "--lora-modules"),
            devices=2,
            enable_lora=True,
            max_loras=4,
            max_lora_rank=64,
            tensor_parallel=2,
        ),
    ),
    "vLLM in a container, a prompt, in the background": (
        (
            "$ sudo docker run --rm -it --gpus '\"device=4,5\"' -v ~/.cache:/root/.cache "
            "-e HF_TOKEN --env CUDA_VISIBLE_DEVICES=0 --ipc=host \\\n"
            "  vllm/vllm-openai:v0.19.0 --model openai/gpt-oss-120b --enforce-eager &\n"
        ),
        launch(
            VLLM,
            "openai/gpt-oss-120b",
            version="v0.19.0",
            ignored=("--rm", "-it", "-v", "HF_TOKEN", "--ipc"),
            devices=1,
            enforce_eager=True,
        ),
    ),
    "SGLang, attention data parallelism": (
        (
            "python3 -m sglang.launch_server --model-path X --tp 8 --mem-fraction-static 0.85 "
            "--context-length 1M --chunked-prefill-size 4096 --max-running-requests 64 "
            "--enable-dp-attention --dp-size 8 --ep-size 4 --swa-full-tokens-ratio 0.5 "
            "--speculative-algorithm EAGLE --speculative-num-steps 3 --speculative-eagle-topk 1 "
            "--speculative-num-draft-tokens 4 --cuda-graph-bs 1 2 4 --disable-radix-cache"
        ),
        launch(
            SGLANG,
            "X",
            tensor_parallel=8,
            memory_frac=0.85,
            max_model_len=1_000_000,
            max_num_batched_tokens=4096,
            enable_chunked_prefill=True,
            max_num_seqs=64,
            attention_dp=True,
            data_parallel=8,
            expert_parallel=True,
            expert_parallel_size=4,
            swa_full_tokens_ratio=0.5,
            speculative_method="mtp",
            speculative_tokens=3,
            speculative_topk=1,
            num_captures=3,
            max_capture_batch=4,
            enable_prefix_caching=False,
        ),
    ),
    "SGLang, a tree of drafts, a variable set before": (
        (
            "# don't forget the draft\nexport MODEL=org/x\n"
            "sglang serve $MODEL --speculative-algorithm EAGLE3 --speculative-num-steps 5 "
            "--speculative-draft-model-path ${MODEL} --speculative-eagle-topk 8 "
            "--speculative-num-draft-tokens 32 "
            "--chunked-prefill-size -1 --attn-dp-size 4 --context-length 128Ki"
        ),
        launch(
            SGLANG,
            "org/x",
            speculative_method="eagle3",
            draft_model="org/x",
            speculative_tokens=31,
            speculative_topk=8,
            enable_chunked_prefill=False,
            data_parallel=4,
            attention_dp=True,
            max_model_len=131_072,
        ),
    ),
    "TensorRT-LLM, a file that is not read": (
        (
            "docker run --gpus all nvcr.io/nvidia/tensorrt-llm/release:1.2.0 trtllm-serve serve X "
            "--tp_size 8 --ep_size 8 --pp_size 2 --max_batch_size 16 --max_num_tokens 8192 "
            "--max_seq_len 32768 --kv_cache_free_gpu_memory_fraction 0.9 --backend pytorch "
            "--extra_llm_api_options extra.yml"
        ),
        launch(
            TRTLLM,
            "X",
            version="1.2.0",
            ignored=("--backend",),
            unread=("extra.yml",),
            tensor_parallel=8,
            expert_parallel=True,
            expert_parallel_size=8,
            pipeline_parallel=2,
            max_num_seqs=16,
            max_num_batched_tokens=8192,
            max_model_len=32768,
            memory_frac=0.9,
        ),
    ),
    "llama.cpp, a share of the context for each slot": (
        (
            "./build/bin/llama-server -m models/x.gguf -c 32768 -ngl 99 -ctk q8_0 -ctv q4_0 "
            "-ub 512 -np 4 -ot exps=CPU -fa -mla 2 -sm layer -t 32 --jinja > log 2>&1 &"
        ),
        launch(
            LLAMACPP,
            "models/x.gguf",
            ignored=("-t", "--jinja"),
            total_context=32768,
            max_model_len=8192,
            max_num_seqs=4,
            n_gpu_layers=99,
            kv_dtype="q8_0/q4_0",
            max_num_batched_tokens=512,
            experts_on_cpu=True,
            flash_attention="on",
            mla=True,
            split_mode="layer",
        ),
    ),
    "llama.cpp, one pool, some experts in host memory": (
        (
            "llama-server -hf org/x-GGUF:Q4_K_M --ctx-size 65536 --parallel 2 -kvu --n-cpu-moe 12 "
            "-ngl all -fa off --cache-type-k q8_0 -ts 3,1 -dev CUDA0,CUDA1 --no-mmproj -amb 512"
        ),
        launch(
            LLAMACPP,
            "org/x-GGUF",
            quantization="Q4_K_M",
            total_context=65536,
            max_model_len=65536,
            max_num_seqs=2,
            kv_unified=True,
            experts_on_cpu_layers=12,
            n_gpu_layers=999,
            flash_attention="off",
            kv_dtype="q8_0/f16",
            tensor_split="3,1",
            devices=2,
            language_model_only=True,
            attention_buffer_bytes=512 * 2**20,
        ),
    ),
    "llama.cpp, what it would choose itself": (
        "llama-cli -m x.gguf -c 0 -ngl auto --cpu-moe -ot '.ffn_.*_exps.=CPU'",
        launch(LLAMACPP, "x.gguf", experts_on_cpu=True),
    ),
    "llama.cpp, bound to processors": (
        (
            'CUDA_VISIBLE_DEVICES="0," numactl --physcpubind="8,10, 24" --membind 1 llama-server '
            "--model x.gguf --n-gpu-layers 99 --temp 0.6 --top_p 0.95 --flash-attn "
            "--override-tensor '.ffn_.*_exps.=CPU'"
        ),
        launch(
            LLAMACPP,
            "x.gguf",
            ignored=("--temp", "--top_p"),
            devices=1,
            n_gpu_layers=99,
            flash_attention="on",
            experts_on_cpu=True,
        ),
    ),
    "a variable exported before it": (
        (
            "export CUDA_VISIBLE_DEVICES=1,2\nexport HF_TOKEN=x MODEL=a/b\nTP=2\n# it's all\n"
            "vllm serve ${MODEL} -tp $TP"
        ),
        launch(VLLM, "a/b", ignored=("HF_TOKEN",), devices=2, tensor_parallel=2),
    ),
    "variables of a container are its own": (
        "CUDA_VISIBLE_DEVICES=0 VLLM_USE_V1=0 docker run --gpus 2 vllm/vllm-openai --model X",
        launch(VLLM, "X", devices=2),
    ),
    "variables passed on to a container": (
        (
            "CUDA_VISIBLE_DEVICES=0 docker run --gpus 2 -e CUDA_VISIBLE_DEVICES "
            "lmsysorg/sglang:v0.5.5.post3-cu129 python3 -m sglang.launch_server --model-path X"
        ),
        launch(SGLANG, "X", version="v0.5.5.post3", devices=1),
    ),
    "llama.cpp in a container": (
        "docker run --gpus 1 ghcr.io/ggml-org/llama.cpp:server-cuda-b6123 -m /m/x.gguf -c 4096",
        launch(
            LLAMACPP,
            "/m/x.gguf",
            version="b6123",
            devices=1,
            total_context=4096,
            max_model_len=4096,
        ),
    ),
}


@pytest.mark.parametrize(("command", "expected"), COMMANDS.values(), ids=COMMANDS)
def test_command_is_read(command, expected):
    assert parse_command(command) == expected


REFUSED = {
    "vllm serve X --max-moddel-len 4096": "Did you mean --max-model-len",
    "vllm serve X --gpu-memory-utilization 1.2": "at most 1",
    "vllm serve X -tp 0": "a whole number of 1 or more",
    "vllm serve X -tp": "-tp is without its value",
    "vllm serve X -tp --port 1": "-tp is without its value",
    "vllm serve X -tp 2 --tensor-parallel-size 4": "say different things",
    "vllm serve X Y": "the model is named before it",
    "vllm serve X --model Y": "say different things",
    "vllm serve X --max-model-len 1.5K": "a suffix",
    "vllm serve X --max-model-len auto": "a suffix",
    "vllm serve X --trust-remote-code --hf-overrides '{}'": "it changes the model",
    'vllm serve X --speculative-config \'{"method":"mtp","method":"ngram"}\'': "each key once",
    'vllm serve X --speculative-config \'{"metod":"mtp"}\'': "Did you mean --speculative-config.m",
    "vllm serve X --speculative-config {method:mtp}": "put the value in single quotes",
    "vllm serve X -cc '{\"pass_config\":{}}'": "an object inside an object",
    "vllm serve $MODEL": "$MODEL is not set",
    "MODEL=x vllm serve $MODEL": "$MODEL is not set",
    'vllm serve "$MODEL"': "$MODEL is not set",
    "vllm serve $(id)": "a command in $( ) is not run",
    'vllm serve "$(id)"': "a command in $( ) is not run",
    "vllm serve `id`": "backquotes",
    "vllm serve X < y": "input from a file",
    "vllm serve X; rm -rf /": "2 commands",
    "vllm serve X && vllm serve Y": "2 commands",
    "vllm serve X || true": "one of two commands",
    "vllm serve 'X": "not closed",
    "vllm bench X": "only 'vllm serve'",
    "export A=1": "no command",
    "": "no command",
    "vlm serve X": "unknown program 'vlm'",
    "python x.py": "only 'python -m MODULE'",
    "VLLM_MLA_DISABLE=1 vllm serve X": "full keys and values",
    "VLLM_USE_V1=0 vllm serve X": "V1",
    "export VLLM_MLA_DISABLE=1; vllm serve X": "full keys and values",
    "export SOMETHING=1; vllm serve X": "unknown environment variable",
    "VLLM_SOMETHING=1 vllm serve X": "unknown environment variable",
    "LLAMA_ARG_CTX_SIZE=4096 llama-server -m x": "as a flag",
    "docker run -e CUDA_VISIBLE_DEVICES vllm/vllm-openai --model X": "its value is not in",
    "docker run --gpu all vllm/vllm-openai --model X": "Did you mean --gpus",
    "docker run ubuntu:24.04 sleep 1": "unknown image",
    "docker run vllm/vllm-openai llama-server -m x": "the image holds vllm",
    "llama-server x.gguf": "belongs to no flag",
    "llama-server -m x -hf y/z": "two models",
    "llama-server -m x -c 32k": "a whole number",
    "llama-server -m x -ot 'blk.1.ffn_up_exps=CPU'": "keeps all routed experts",
    "llama-server -m x -mla 1": "a second cache",
    "llama-server -m x -ctk q9": "one of f32",
    "llama-server -m x -c 4 -np 8": "larger than --ctx-size",
    "trtllm-serve X --max_beam_width 4": "several beams",
    "sglang serve X --speculative-eagle-topk 4 --speculative-num-steps 3": "draft tree",
    "sglang serve X --dp-size 2 --attn-dp-size 4": "differ",
    "vllm serve " + "x" * 65536: "longer than 65536",
    "".join(f"A{i + 1}=${{A{i}}}${{A{i}}}\n" for i in range(40)): "$A0 is not set",
    "A0=xx\n" + "".join(f"A{i + 1}=${{A{i}}}${{A{i}}}\n" for i in range(40)): "grow past",
}


@pytest.mark.parametrize(("command", "message"), REFUSED.items(), ids=range(len(REFUSED)))
def test_command_is_refused(command, message):
    with pytest.raises(InputError) as caught:
        parse_command(command)
    assert message in str(caught.value)


def test_an_unknown_flag_says_what_to_do_and_shows_no_value():
    with pytest.raises(UnknownNameError) as caught:
        parse_command("vllm serve X --api-keys=secret")
    assert "leave it out" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_tables_name_each_flag_once_and_set_what_exists():
    for engine, table in TABLES.items():
        names = Counter(normal(name) for entry in table for name in entry.spelled.split())
        assert not [name for name, times in names.items() if times > 1], engine
        derived = {
            name for entry in table if isinstance(entry, Flag) for name in entry.also.split()
        }
        assert derived <= set(SETTING_NAMES)


def test_flags_have_the_engines_names():
    assert flag_of(VLLM, "memory_frac") == "--gpu-memory-utilization"
    assert flag_of(SGLANG, "memory_frac") == "--mem-fraction-static"
    assert flag_of(TRTLLM, "memory_frac") == "--kv_cache_free_gpu_memory_fraction"
    assert flag_of(LLAMACPP, "max_model_len") == "--ctx-size"
    assert flag_of(LLAMACPP, "kv_dtype") == "--cache-type-k"
    assert flag_of(LLAMACPP, "memory_frac") is None
    assert flag_of(EngineName.GENERIC, "memory_frac") is None


@pytest.mark.parametrize("engine", TABLES)
def test_each_flag_of_a_table_reaches_a_setting(engine):
    words = ["", "1", "2", "0.5", "auto", "on", "none", "f16", "mtp", "ngram", "NGRAM", "weights"]
    words += ["NONE", "layer", "ngram-mod", "exps=CPU", "1 -hf x"]
    program = PROGRAMS[engine].split(" X")[0].replace("-m", "-np 1")
    for flag in (entry for entry in TABLES[engine] if isinstance(entry, Flag)):
        for name in flag.spelled.split():
            found = [read for word in words if (read := read_or_none(f"{program} {name} {word}"))]
            assert any(
                read.model or len(read.settings.stated) > (engine is LLAMACPP) for read in found
            )


def read_or_none(command):
    try:
        return parse_command(command)
    except LlmplanError:
        return None


COUNTS = st.integers(1, 2**40)
FRACTIONS = st.integers(1, 1000).map(lambda n: n / 1000)
SAMPLES = {
    VLLM: {
        "memory_frac": FRACTIONS,
        "max_model_len": COUNTS,
        "max_num_batched_tokens": COUNTS,
        "max_num_seqs": COUNTS,
        "kv_cache_memory_bytes": COUNTS,
        "tensor_parallel": COUNTS,
        "decode_context_parallel": COUNTS,
        "kv_dtype": st.sampled_from(["auto", "fp8", "fp8_e4m3"]),
        "expert_parallel": st.booleans(),
        "enable_prefix_caching": st.booleans(),
        "enforce_eager": st.booleans(),
        "speculative_tokens": COUNTS,
        "speculative_method": st.sampled_from(["mtp", "eagle3", "ngram"]),
        "max_loras": COUNTS,
        "images_per_prompt": COUNTS,
    },
    SGLANG: {
        "memory_frac": FRACTIONS,
        "max_model_len": COUNTS,
        "max_num_seqs": COUNTS,
        "max_total_tokens": COUNTS,
        "tensor_parallel": COUNTS,
        "swa_full_tokens_ratio": FRACTIONS,
        "kv_dtype": st.sampled_from(["auto", "fp8_e4m3"]),
        "max_lora_rank": COUNTS,
        "draft_model": st.sampled_from(["a/b", "c"]),
    },
    TRTLLM: {
        "memory_frac": FRACTIONS,
        "max_model_len": COUNTS,
        "max_num_batched_tokens": COUNTS,
        "max_num_seqs": COUNTS,
        "tensor_parallel": COUNTS,
    },
    LLAMACPP: {
        "max_num_batched_tokens": COUNTS,
        "max_num_seqs": COUNTS,
        "n_gpu_layers": COUNTS,
        "experts_on_cpu_layers": COUNTS,
        "flash_attention": st.sampled_from(["on", "off", "auto"]),
        "split_mode": st.sampled_from(["none", "layer", "row"]),
        "tensor_split": st.sampled_from(["1,1", "3,1"]),
    },
}
PROGRAMS = {
    VLLM: "vllm serve X",
    SGLANG: "sglang serve X",
    TRTLLM: "trtllm-serve X",
    LLAMACPP: "llama-server -m X",
}


@pytest.mark.parametrize("engine", SAMPLES)
@given(data=st.data())
def test_what_is_written_is_read_back(engine, data):
    said = data.draw(st.fixed_dictionaries({}, optional=SAMPLES[engine]))
    words = shlex.split(PROGRAMS[engine])
    for name in data.draw(st.permutations(list(said))):
        flag, value = flag_of(engine, name), said[name]
        if isinstance(value, bool):
            words.append(flag if value else flag.replace("--", "--no-"))
        else:
            words += data.draw(st.sampled_from([[flag, str(value)], [f"{flag}={value}"]]))
    assert parse_command(shlex.join(words)) == launch(engine, "X", **said)


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=5))
def test_json_and_words_say_the_same(sizes):
    config = json.dumps({"cudagraph_capture_sizes": sizes})
    words = " ".join(map(str, sizes))
    assert parse_command(f"vllm serve X -cc '{config}'") == parse_command(
        f"vllm serve X --cudagraph-capture-sizes {words}"
    )


PIECES = st.sampled_from(
    [
        *(name for table in TABLES.values() for entry in table for name in entry.spelled.split()),
        "vllm",
        "serve",
        "docker",
        "run",
        "vllm/vllm-openai:v1",
        "python",
        "-m",
        "sglang",
        "sudo",
        "llama-server",
        "trtllm-serve",
        "'",
        '"',
        "\\",
        "$A",
        "A=1",
        "|",
        ">",
        "2>&1",
        "&",
        "\n",
        "#",
        "1",
        "-1",
        "0.5",
        "{}",
        "'{\"a\":1}'",
        "'[[[['",
        "=",
        "-O3",
        "-O",
        "--",
        "-",
        "é",
        "\x00",
        "1e9",
    ]
)


@settings(max_examples=300)
@given(
    st.sampled_from([*PROGRAMS.values(), "docker run", ""]),
    st.one_of(st.text(max_size=80), st.lists(PIECES, max_size=12).map(" ".join)),
)
def test_hostile_text_gives_only_our_errors(program, text):
    try:
        found = parse_command(f"{program} {text}")
    except LlmplanError as error:
        found = error
    assert isinstance(found, Launch) or str(found).isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "vllm serve X -" + "0" * 60_000 + "x",
        "vllm serve X " + "-tp 1 " * 10_000,
        "vllm serve X -cc '" + '{"a":' * 12_000 + "'",
        'vllm serve X -cc \'{"mode":' + "9" * 60_000 + "}'",
        "vllm serve X --cudagraph-capture-sizes " + "1," * 30_000,
        "'" * 60_001,
        "$ " * 30_000,
        "A=" + "1" * 60_000 + "\n$A",
        "".join(f"export A{i}=1\n" for i in range(3_000)) + "a\n" * 10_000,
        "vllm serve X --" + "max-model-len" * 4_000,
    ],
    ids=range(10),
)
def test_long_text_is_read_or_refused_in_a_moment(text):
    begun = time.perf_counter()
    with contextlib.suppress(LlmplanError):
        parse_command(text)
    assert time.perf_counter() - begun < 2
