"""``python -m benchmarks.lms --port 18000 --delay 0.05``: serves until it is stopped."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os

from benchmarks.lms.routes import DEFAULT_DELAY, Lms
from benchmarks.lms.server import Connection
from benchmarks.lms.world import World


def main() -> None:
    parser = argparse.ArgumentParser(description="The benchmark LMS.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument(
        "--delay", type=float, default=DEFAULT_DELAY, help="seconds before every answer"
    )
    parser.add_argument("--application-url", default="http://localhost:8013")
    parser.add_argument("--call-back", default="", help="the application's address for requests")
    parser.add_argument("--no-batch", action="store_true", help="without usher.lms")
    parser.add_argument("--runs", type=int, default=0)
    arguments = parser.parse_args()
    world = World(
        application_url=arguments.application_url,
        client_id=os.environ.get("BENCH_CLIENT_ID", "bench-client"),
        oauth_client_id=os.environ.get("BENCH_OAUTH_CLIENT_ID", "bench-oauth-client"),
        oauth_client_secret=os.environ.get("BENCH_OAUTH_CLIENT_SECRET", "bench-oauth-secret"),
        service_token=os.environ.get("BENCH_SERVICE_TOKEN", "bench-service-token"),
        oauth_login_secret=os.environ.get("BENCH_CLIENT_SECRET", "bench-secret"),
    )
    world.make_runs(arguments.runs)
    lms = Lms(
        world,
        arguments.delay,
        has_batch_api=not arguments.no_batch,
        application_server=arguments.call_back,
    )
    asyncio.run(_serve(lms, arguments.port))


async def _serve(lms: Lms, port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Connection(lms.handle), "127.0.0.1", port, backlog=1024
    )
    gc.freeze()
    gc.disable()  # collecting takes time and would free little
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    main()
