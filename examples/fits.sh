#!/bin/sh
# On how many H100s do 16 requests of 32k tokens of a model fit? Only the exit code is read.
# Use: sh examples/fits.sh [MODEL]
model=${1:-llama-3.1-70b}

for gpus in 1xH100 2xH100 4xH100 8xH100; do
    llmplan fit "$model" --gpus "$gpus" --context 32k --batch 16 >/dev/null 2>&1
    case $? in
        0) echo "$gpus: fits" ;;
        1) echo "$gpus: does not fit" ;;
        *) echo "$gpus: no answer; run the command by itself to see why" >&2; exit 2 ;;
    esac
done
