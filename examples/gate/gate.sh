#!/usr/bin/env bash
# Gates a real pair: compiles the committed network, and verifies the result at its exact budgets.
#   gate.sh               every budget is just kept: ends with 0
#   gate.sh total-params  one unit less is allowed of that: ends with 1, and says by how much it is exceeded
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

original=models/files/reactnet-tiny.onnx
rep=$folder/rep.onnx
reptran-compile "$original" --beta 2 -o "$rep" --quiet

declare -A most=(
  [conv-params]=24752 [binary-params]=24320 [bops]=4063232 # those of the original, by theory
  [macs]=4175104 [ops]=175360 [total-params]=28042         # with the classifier widened, and parameters per channel
  [bytes]=114152
)
budgets=()
for name in "${!most[@]}"; do
  limit=${most[$name]}
  if [ "$name" = "${1:-}" ]; then limit=$((limit - 1)); fi
  budgets+=(--budget "$name<=$limit")
done
reptran-verify "$original" "$rep" --beta 2 "${budgets[@]}"
