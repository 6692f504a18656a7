"""Variables that stand before a command or in ``docker run -e``, and the options of docker run.

Sources: docs.vllm.ai, Environment Variables; docs.docker.com, docker container run; llama.cpp
tools/server/README.md; read 2026-11-22.
"""

from typing import Final

from llmplan.engines.flag_kinds import (
    DEVICES,
    WORD,
    Entry,
    Fixed,
    Flag,
    Ignored,
    Kind,
    Refused,
    Unread,
)

DEVICE_NAMES: Final = ("devices", "visible_gpus", "container_gpus")
"""Who may say how many GPUs there are: the engine, its environment, its container. First wins."""


def _docker_gpus(text: str) -> int | None:
    """``2``, ``device=0,1`` or ``all``; docker itself keeps a pair of quotes inside the word."""
    bare = text.strip("\"'")
    if bare == "all":
        return None
    if bare.startswith("device="):
        count = DEVICES.read(bare.removeprefix("device="))
        return count if isinstance(count, int) else None
    if not bare.isdecimal() or not bare.isascii() or len(bare) > 4:
        raise ValueError("all, a number, or device= and GPUs separated by commas")
    return int(bare)


VARIABLES: Final[tuple[Entry, ...]] = (
    Flag("CUDA_VISIBLE_DEVICES HIP_VISIBLE_DEVICES", "visible_gpus", DEVICES),
    Flag(
        "NVIDIA_VISIBLE_DEVICES",
        "container_gpus",
        Kind(lambda text: None if text == "all" else DEVICES.read(text)),
    ),
    Flag("VLLM_ATTENTION_BACKEND", "attention_backend", WORD),
    Flag("VLLM_ALL2ALL_BACKEND", "all2all_backend", WORD),
    Ignored("HF_HOME HF_TOKEN HF_HUB_CACHE HF_HUB_OFFLINE HF_HUB_ENABLE_HF_TRANSFER HF_ENDPOINT"),
    Ignored("HUGGING_FACE_HUB_TOKEN HUGGINGFACE_HUB_CACHE TRANSFORMERS_CACHE TRANSFORMERS_OFFLINE"),
    Ignored("CUDA_DEVICE_ORDER CUDA_LAUNCH_BLOCKING CUDA_HOME LD_LIBRARY_PATH PATH PYTHONPATH"),
    Ignored("OMP_NUM_THREADS TOKENIZERS_PARALLELISM PYTHONUNBUFFERED TZ LANG TMPDIR HOME"),
    Ignored("NCCL_DEBUG NCCL_SOCKET_IFNAME NCCL_IB_HCA NCCL_IB_DISABLE NCCL_P2P_DISABLE"),
    Ignored("GLOO_SOCKET_IFNAME NCCL_IB_GID_INDEX PYTORCH_CUDA_ALLOC_CONF PYTORCH_ALLOC_CONF"),
    Ignored("VLLM_LOGGING_LEVEL VLLM_CONFIGURE_LOGGING VLLM_API_KEY VLLM_USE_MODELSCOPE"),
    Ignored("VLLM_NO_USAGE_STATS VLLM_DO_NOT_TRACK VLLM_WORKER_MULTIPROC_METHOD VLLM_HOST_IP"),
    Ignored("VLLM_PORT VLLM_RPC_TIMEOUT VLLM_CACHE_ROOT VLLM_ALLOW_LONG_MAX_MODEL_LEN"),
    Ignored("VLLM_ENGINE_READY_TIMEOUT_S VLLM_ALLOW_RUNTIME_LORA_UPDATING"),
    Ignored("VLLM_ENGINE_ITERATION_TIMEOUT_S VLLM_RINGBUFFER_WARNING_INTERVAL"),
    Ignored("SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN SGLANG_USE_MODELSCOPE"),
    Fixed("VLLM_USE_V1", "1", "only the V1 engine is described"),
    Refused(
        "VLLM_MLA_DISABLE", "a cache of full keys and values for a latent model is not described"
    ),
)

DOCKER: Final[tuple[Entry, ...]] = (
    Flag("--gpus", "container_gpus", Kind(_docker_gpus)),
    Unread("--env-file"),
    Ignored("--volume -v --publish -p --name --network --net --ipc --shm-size --runtime --ulimit"),
    Ignored("--workdir -w --user -u --memory -m --mount --restart --device --group-add"),
    Ignored("--security-opt --cap-add --hostname -h --label -l --add-host --log-opt --log-driver"),
    Ignored("--cpus --cpuset-cpus --platform --pull --pid --tmpfs"),
    Ignored("--detach -d --interactive -i --tty -t -it -ti -itd -dit -td --rm --init", "none"),
    Ignored("--privileged --read-only", "none"),
)
