"""The JavaScript SDK as a package: what is in it, what it exports, and its types."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from client_sdk.version import VERSION
from tests.support.node import npm, run_node, typescript

PACKAGE = Path(__file__).parents[2] / "client_sdk" / "js"
DESCRIPTION = json.loads((PACKAGE / "package.json").read_text(encoding="utf-8"))
NAME = "session-gateway-client"


def public_names() -> set[str]:
    entry = (PACKAGE / "gateway.js").read_text(encoding="utf-8")
    return set(re.findall(r"\b[A-Z]\w+\b", re.sub(r"/\*.*?\*/", "", entry, flags=re.DOTALL)))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that has the package installed: the files that it says it has, and no others."""
    installed = tmp_path / "node_modules" / NAME
    (installed / "types").mkdir(parents=True)
    for pattern in [*DESCRIPTION["files"], "package.json"]:
        for file in PACKAGE.glob(pattern):
            shutil.copy(file, installed / file.relative_to(PACKAGE))
    (tmp_path / "package.json").write_text('{"type": "module"}')
    return tmp_path


def test_it_says_what_it_is() -> None:
    assert DESCRIPTION["name"] == NAME
    assert DESCRIPTION["version"] == VERSION
    assert DESCRIPTION["type"] == "module"
    assert DESCRIPTION["engines"] == {"node": ">=20"}
    assert DESCRIPTION["keywords"]
    assert DESCRIPTION["license"] == "UNLICENSED"
    assert not {"dependencies", "peerDependencies", "optionalDependencies", "scripts", "bin"} & DESCRIPTION.keys()


def test_it_holds_what_is_needed_and_nothing_else() -> None:
    packed = subprocess.run(
        [npm(), "pack", "--dry-run", "--json", "--offline"], cwd=PACKAGE, capture_output=True, text=True, timeout=50
    )
    assert packed.returncode == 0, packed.stderr
    [listed] = json.loads(packed.stdout)
    files = {file["path"] for file in listed["files"]}
    sources = {path.name for path in PACKAGE.glob("*.js")}
    types = {f"types/{path.name}" for path in PACKAGE.glob("types/*.d.ts")}
    assert files == {"package.json", "README.md", *sources, *types}


def test_every_file_is_part_of_what_the_entry_imports() -> None:
    seen, ahead = set(), ["gateway.js"]
    while ahead:
        name = ahead.pop()
        if name not in seen:
            seen.add(name)
            text = (PACKAGE / name).read_text(encoding="utf-8")
            ahead += re.findall(r'^(?:import|export|\}) .*?from "\./([\w.]+)";', text, re.MULTILINE)
    assert seen == {path.name for path in PACKAGE.glob("*.js")}


def test_it_is_imported_by_name(project: Path) -> None:
    program = f'import * as sdk from "{NAME}"; process.stdout.write(JSON.stringify(Object.keys(sdk)));'
    (project / "main.js").write_text(program)
    assert set(json.loads(run_node(project / "main.js", cwd=project).stdout)) == public_names()


def test_without_a_websocket_it_says_what_to_do(project: Path) -> None:
    program = f"""
        import {{ Channel }} from "{NAME}";
        delete globalThis.WebSocket;
        try {{
          new Channel("http://127.0.0.1:1", "t1");
        }} catch (error) {{
          process.stdout.write(error.message);
        }}
    """
    (project / "main.js").write_text(program)
    told = run_node(project / "main.js", cwd=project).stdout
    assert "Node 22" in told
    assert "--experimental-websocket" in told


def test_the_types_are_those_of_the_sources(tmp_path: Path) -> None:
    """After a change: tsc --project client_sdk/js --noEmit false --declaration --emitDeclarationOnly --outDir types"""
    options = ("--noEmit", "false", "--declaration", "--emitDeclarationOnly", "--outDir", tmp_path)
    run_node(typescript(), "--project", PACKAGE / "tsconfig.json", *options)
    made = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.glob("*.d.ts")}
    kept = {path.name: path.read_text(encoding="utf-8") for path in PACKAGE.glob("types/*")}
    assert sorted(made) == sorted(kept)
    assert [name for name in made if made[name] != kept[name]] == []


RIGHT = """
import { Channel, ChannelError, Lease, Meter, QuotaExceeded } from "session-gateway-client";

const channel = new Channel("https://gateway.example.org", async (refused) => refused ?? "t1", { watch: ["self"] });
await channel.open();
const ends: () => void = channel.on("change", (change) => change.causes.map((cause) => cause.length), { doc: "self" });
channel.on("freshness", ({ state, ageS }) => state === "live" && ageS === 0);
channel.on("ended", (error: Error | null) => ends());
for await (const { kind, patch } of channel) {
  const known: "snapshot" | "update" | "gone" = kind;
}
const remaining: number | null = (await channel.consume("voice_minutes", 2, { key: "k" })).remaining;
const lease: Lease = await channel.lease("voice_minutes", 5, { ttlS: 10 });
const left: number = await channel.lease("voice_minutes", 5, {}, async (held) => held.left);
const said: string = await new Meter(channel, "voice_minutes").run(async (signal) => String(signal.aborted));
const error: ChannelError = new QuotaExceeded("No.", { remaining: 1 });
const hard: boolean | undefined = channel.quotas.voice_minutes?.hard;
const can: boolean = channel.can("can_use_voice") && channel.permissions.has("a");
const signal = AbortSignal.timeout(5000);
await Promise.all([channel.watch("org:o", { signal }), channel.sync("self", { signal }), channel.ping({ signal })]);
const gone: number = await channel.lease("voice_minutes", 5, (held) => held.left);
{
  await using held = await channel.lease("voice_minutes", 5, { signal });
  held.use();
  await using another = new Channel(null, "t1");
}
new Channel(null, "t1", { WebSocket });
"""
TYPES = """
import { Channel, Meter } from "session-gateway-client";
import type {
  Balance, Change, ChannelOptions, ClientInfo, ConsumeOptions, Data, Freshness, FreshnessState, LeaseOptions,
  MeterOptions, News, Quota, Quotas, SocketClass, StopReason, TokenProvider, Watched,
} from "session-gateway-client";

class Socket {
  binaryType = "blob";
  protocol = "";
  constructor(url: string, protocols?: string | string[]) {}
  send(data: string | Uint8Array): void {}
  close(code?: number, reason?: string): void {}
  addEventListener(type: "open" | "message" | "close" | "error", listener: (event: { data: unknown }) => void): void {}
  removeEventListener(type: string, listener: (event: { data: unknown }) => void): void {}
}

const token: TokenProvider = async (refused) => refused ?? "t1";
const client: ClientInfo = { name: "a", version: "1" };
const made: SocketClass = Socket;
const options: ChannelOptions = { watch: ["self"], client, WebSocket: Socket };
const channel = new Channel("https://gateway.example.org", token, options);
const show = (change: Change): Data => change.data;
channel.on("change", show);
channel.on("trouble", (error: News["trouble"]) => error.code);
const { state }: Freshness = channel.freshness;
const known: FreshnessState = state;
const watched: Watched = await channel.watch("org:o");
const quotas: Quotas = channel.quotas;
const quota: Quota | undefined = quotas.voice_minutes;
const spending: ConsumeOptions = { key: "k" };
const balance: Balance = await channel.consume("voice_minutes", 2, spending);
const leasing: LeaseOptions = { ttlS: 10 };
const metering: MeterOptions = { graceMs: 1000, onLow: (left: Balance) => left.level };
const reason: StopReason | undefined = new Meter(channel, "voice_minutes", metering).stopped?.reason;
{
  await using held = await channel.lease("voice_minutes", 5, leasing);
}
"""
# What programs for Node have instead of a page's types, as far as the SDK mentions it.
NODE = """
declare class URL { constructor(url: string); readonly href: string }
declare class AbortSignal { readonly aborted: boolean; readonly reason: any }
"""
WRONG = """
import { Channel } from "session-gateway-client";

new Channel("https://gateway.example.org", 7);
new Channel(null, "t1", { nothing: 1 });
new Channel(null, "t1").on("nothing", () => undefined);
new Channel(null, "t1").permissions.add("can_fly");
new Channel(null, "t1").lease("voice_minutes");
new Channel(null, "t1").quotas.voice_minutes.hard;
new Channel(null, "t1", { WebSocket: class { constructor(url: string) {} } });
"""


CHECKED = ("--strict", "--noEmit", "--target", "es2022", "--module", "nodenext")


def test_programs_in_typescript_are_checked_against_the_types(project: Path) -> None:
    options = (*CHECKED, "--lib", "es2022,dom,esnext")
    (project / "right.ts").write_text(RIGHT)
    run_node(typescript(), *options, project / "right.ts", cwd=project)
    (project / "wrong.ts").write_text(WRONG)
    with pytest.raises(AssertionError) as refused:
        run_node(typescript(), *options, project / "wrong.ts", cwd=project)
    wrong = [number for number, line in enumerate(WRONG.splitlines(), 1) if line.startswith("new ")]
    assert sorted(map(int, re.findall(r"wrong\.ts\((\d+),", str(refused.value)))) == wrong


@pytest.mark.parametrize("libraries", ["es2022", "es2022,dom"], ids=["in Node", "in a page"])
def test_every_type_can_be_imported_and_none_wants_a_page(project: Path, libraries: str) -> None:
    """The declarations themselves are checked too, and the libraries are those of an older program."""
    (project / "main.ts").write_text(TYPES)
    (project / "node.d.ts").write_text(NODE if libraries == "es2022" else "")
    files = project / "main.ts", project / "node.d.ts"
    run_node(typescript(), *CHECKED, "--skipLibCheck", "false", "--lib", libraries, *files, cwd=project)
