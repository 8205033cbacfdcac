"""Events of a runtime that has them: a gRPC server that speaks that part of CRI."""

from __future__ import annotations

import contextlib

import grpc
import pytest

from edgecore.edged.cri import CriRuntime
from edgecore.edged.cri.pb import api_pb2 as pb
from edgecore.edged.cri.pb.api_pb2_grpc import (
    RuntimeServiceServicer,
    add_RuntimeServiceServicer_to_server,
)
from edgecore.edged.runtime import RuntimeUnavailableError


class Telling(RuntimeServiceServicer):
    async def GetContainerEvents(self, request, context):  # noqa: N802
        for uid in ("u-1", "u-2"):
            metadata = pb.PodSandboxMetadata(uid=uid)
            yield pb.ContainerEventResponse(
                container_id="c",
                container_event_type=pb.CONTAINER_STOPPED_EVENT,
                pod_sandbox_status=pb.PodSandboxStatus(metadata=metadata),
            )
        await context.abort(grpc.StatusCode.UNAVAILABLE, "going down")


@contextlib.asynccontextmanager
async def runtime_of(folder, servicer):
    server = grpc.aio.server()
    add_RuntimeServiceServicer_to_server(servicer, server)
    server.add_insecure_port(f"unix:{folder}/cri.sock")
    await server.start()
    runtime = CriRuntime(f"{folder}/cri.sock", owner="edge-1")
    yield runtime
    await runtime.close()
    await server.stop(None)


async def test_events_name_the_pods_that_changed_until_the_runtime_goes(tmp_path):
    async with runtime_of(tmp_path, Telling()) as runtime:
        events = runtime.events()
        assert [await anext(events), await anext(events)] == ["u-1", "u-2"]
        with pytest.raises(RuntimeUnavailableError, match="going down"):
            await anext(events)


async def test_a_runtime_without_events_tells_none(tmp_path):
    async with runtime_of(tmp_path, RuntimeServiceServicer()) as runtime:
        assert [uid async for uid in runtime.events()] == []
