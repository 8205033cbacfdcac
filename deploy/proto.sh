#!/bin/sh
# Make the gRPC stubs again from proto/; CI demands an empty difference afterwards.
set -eu
cd "$(dirname "$0")/.."
# The mapping gives the generated module its place in the tree, so that its imports are absolute.
stubs() { # stubs PACKAGE_FOLDER SOURCE_FOLDER FILE
    python -m grpc_tools.protoc -I "$1=$2" --python_out=. --pyi_out=. --grpc_python_out=. "$1/$3"
}
stubs synccore/pb proto/armadillo/sync/v1 sync.proto
stubs synccore/pb proto/armadillo/values/v1 values.proto
stubs edgecore/edged/cri/pb proto/cri/runtime/v1 api.proto
stubs devicemodels/pb proto/dmi/v1beta1 dmi.proto
stubs devicemodels/pb proto/armadillo/dmi/v1 readings.proto
stubs edgecore/edged/probes/pb proto/grpc/health/v1 health.proto
