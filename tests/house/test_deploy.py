"""What is deployed fits together: the image, the composition, the proxy, the settings, the Procfile."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec
import pytest
import yaml

from gateway.cli.program import gateway as program
from gateway.config import SECTIONS, Config, environment_name, load_config
from gateway.serve import STOP_GRACE_S
from gateway.web.change_log import MAX_WAIT_S
from tests.support.markdown import Markdown

TREE = Path(__file__).parents[2]
DEPLOY = TREE / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
NODES = {name: service for name, service in SERVICES.items() if re.fullmatch(r"gateway-\d+", name)}
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "session-gateway"}
NGINX = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
DEFAULTS = Config()
PORT = DEFAULTS.server.port
SETTINGS = {
    environment_name(section, field.name)
    for section, kind in SECTIONS.items()
    for field in msgspec.structs.fields(kind)
}


class Instruction(NamedTuple):
    """One instruction of a Dockerfile and the number of its stage."""

    stage: int
    name: str
    text: str


def instructions() -> Iterator[Instruction]:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    stage = -1
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, rest = line.partition(" ")
            stage += name == "FROM"
            yield Instruction(stage, name, " ".join(rest.split()))


IMAGE = list(instructions())
LAST = max(instruction.stage for instruction in IMAGE)


def of_image(name: str) -> list[str]:
    """What the instructions of the last stage say that have this name."""
    return [instruction.text for instruction in IMAGE if (instruction.stage, instruction.name) == (LAST, name)]


def environment_of_image() -> dict[str, str]:
    return dict(pair.split("=", 1) for text in of_image("ENV") for pair in shlex.split(text))


def seconds(text: str) -> float:
    assert re.fullmatch(r"\d+s", text), text
    return float(text[:-1])


def understood(arguments: list[str]) -> str:
    """These are a command of `gateway` with its options, whose name is returned; nothing is run."""
    name, command, rest = program.resolve_command(click.Context(program), arguments)
    assert command is not None
    command.make_parser(click.Context(command, info_name=name)).parse_args(list(rest))
    return str(name)


def compiles(code: str) -> None:
    """This is a program whose imports exist."""
    exec(compile(ast.Module([node for node in ast.parse(code).body if isinstance(node, ast.Import)], []), "", "exec"))


# --- the image -------------------------------------------------------------------------------------------------------


def copied() -> set[str]:
    """The files and directories of the repository that are copied into the image."""
    return {
        source
        for instruction in IMAGE
        if instruction.name == "COPY" and not instruction.text.startswith("--from")
        for source in instruction.text.split()[:-1]
    }


def test_everything_that_is_copied_exists_and_nothing_of_it_is_left_out() -> None:
    assert [source for source in copied() if not (TREE / source).exists()] == []
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines
    assert {line[1:] for line in lines if line.startswith("!")} == copied()


def test_all_that_the_installation_needs_is_copied() -> None:
    project = tomllib.loads((TREE / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {project["project"]["readme"], "pyproject.toml", *wheel["packages"], *wheel["force-include"]}
    assert needed | {"requirements.lock"} == copied()


def test_the_locked_versions_are_installed_with_the_extra() -> None:
    [install] = [text for _, name, text in IMAGE if name == "RUN" and "install" in text and "pip" in text]
    command: list[str] = ast.literal_eval(install)
    assert command[command.index("--constraint") + 1] == "requirements.lock"
    assert command[-1] == ".[server]"


def test_every_stage_begins_with_the_same_python() -> None:
    bases = {text.split()[0] for _, name, text in IMAGE if name == "FROM"}
    assert bases == {"python:3.12-slim"}, "an environment works only where it was made"


def test_the_gateway_is_process_1_and_not_root() -> None:
    [entrypoint], [command] = of_image("ENTRYPOINT"), of_image("CMD")
    assert ast.literal_eval(entrypoint) == ["gateway"]
    assert understood(ast.literal_eval(command)) == "serve"
    assert of_image("STOPSIGNAL") == ["SIGTERM"]
    [user] = of_image("USER")
    assert all(int(number) > 0 for number in user.split(":"))
    owner = re.search(r"--owner=(\d+).*--group=(\d+).*\"(/\w+)\"", of_image("RUN")[0])
    assert owner is not None
    assert (f"{owner[1]}:{owner[2]}", owner[3]) == (user, of_image("VOLUME")[0])


def test_the_image_can_be_configured_and_is_healthy_while_it_lives() -> None:
    environment = environment_of_image()
    config = load_config(environ={k: v for k, v in environment.items() if k.startswith("GATEWAY_")})
    assert config.server.host == "0.0.0.0"
    assert of_image("EXPOSE") == [str(config.server.port)] == [str(PORT)]
    assert config.database.url.startswith(f"file:{of_image('VOLUME')[0]}/")
    [health] = of_image("HEALTHCHECK")
    command: list[str] = ast.literal_eval(health.split("CMD ")[1])
    assert command[:2] == ["python", "-c"]
    compiles(command[2])
    assert "/health'" in command[2]
    assert "environ['GATEWAY_SERVER_PORT']" in command[2]


# --- the composition -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_a_setting_that_takes_the_value(name: str, tmp_path: Path) -> None:
    environment: dict[str, str] = OURS[name]["environment"]
    assert set(environment) <= SETTINGS
    token = tmp_path / "token"
    token.write_text("made by deploy/make-secrets")
    for variable, value in environment.items():
        if variable.endswith("_FILE"):
            assert value in {f"/run/secrets/{secret}" for secret in OURS[name]["secrets"]}
    load_config(environ={k: str(token) if k.endswith("_FILE") else v for k, v in environment.items()})
    assert all(isinstance(value, str) for value in environment.values()), "YAML makes numbers of numbers"


def test_there_are_nodes_and_all_are_alike() -> None:
    assert len(NODES) == 2
    own = {"hostname", "networks"}
    first, *others = ({k: v for k, v in service.items() if k not in own} for service in NODES.values())
    assert all(other == first for other in others)


@pytest.mark.parametrize("name", NODES)
def test_a_node_has_the_time_and_the_descriptors_that_it_needs(name: str) -> None:
    node = NODES[name]
    environment = node["environment"]
    config = load_config(environ={k: v for k, v in environment.items() if not k.endswith("_FILE")})
    assert seconds(node["stop_grace_period"]) > config.server.drain_s + 2 * STOP_GRACE_S
    assert node["ulimits"]["nofile"] > config.channel.max_sessions + 200
    assert understood(node["command"]) == "serve"
    assert node["healthcheck"]["test"][:3] == ["CMD", "python", "-c"]
    compiles(node["healthcheck"]["test"][3])
    assert f":{PORT}/ready'" in node["healthcheck"]["test"][3]


def test_the_schema_is_brought_up_to_date_before_a_node_starts() -> None:
    assert understood(OURS["migrate"]["command"]) == "migrate"
    for node in NODES.values():
        assert node["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
        assert node["depends_on"]["durability"] == {"condition": "service_completed_successfully"}
    for name in ("migrate", "durability"):
        assert OURS[name]["restart"] == "no"


@pytest.mark.parametrize("name", SERVICES)
def test_who_is_waited_for_can_be_waited_for(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        waited_for = SERVICES[other]
        if how["condition"] == "service_healthy":
            assert "test" in waited_for["healthcheck"]
        else:
            assert waited_for["restart"] == "no"


def test_only_the_proxy_is_reachable_from_outside() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["proxy"]
    inner = {int(port) for port in re.findall(r"^\s+listen (\d+)", NGINX, re.MULTILINE)}
    assert {int(mapping.split(":")[1]) for mapping in SERVICES["proxy"]["ports"]} == inner


def address(service: dict[str, Any]) -> str:
    return str(service["networks"]["inside"]["ipv4_address"])


def test_addresses_that_do_not_change_are_in_the_network_and_not_given_to_others() -> None:
    [config] = COMPOSE["networks"]["inside"]["ipam"]["config"]
    fixed = [address(service) for service in [*NODES.values(), SERVICES["proxy"]]]
    assert len(set(fixed)) == len(fixed)
    assert all(ip_address(one) in ip_network(config["subnet"]) for one in fixed)
    assert not any(ip_address(one) in ip_network(config["ip_range"]) for one in fixed)
    assert ip_network(config["ip_range"]).subnet_of(ip_network(config["subnet"]))


def test_the_nodes_believe_the_proxy_and_nobody_else() -> None:
    for node in NODES.values():
        assert node["environment"]["GATEWAY_SERVER_TRUSTED_PROXIES"] == f"{address(SERVICES['proxy'])}/32"


@pytest.mark.parametrize("upstream", ["channel", "api"])
def test_the_proxy_knows_every_node(upstream: str) -> None:
    block = re.search(rf"upstream {upstream} {{(.*?)}}", NGINX, re.DOTALL)
    assert block is not None
    assert "random two least_conn;" in block[1]
    assert re.findall(r"server ([\w-]+):(\d+)", block[1]) == [(name, str(PORT)) for name in NODES]
    assert SERVICES["proxy"]["extra_hosts"] == [f"{name}:{address(node)}" for name, node in NODES.items()]


def test_files_that_are_mounted_exist_or_are_made() -> None:
    script = (DEPLOY / "make-secrets").read_text(encoding="utf-8")
    sources = [volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])]
    files = [
        *(source for source in sources if "/" in source),
        *(secret["file"] for secret in COMPOSE["secrets"].values()),
    ]
    for file in files:
        made = file.removeprefix("./secrets/")
        assert made in script if made != file else (DEPLOY / file).exists(), file
    assert {source for source in sources if "/" not in source} == set(COMPOSE["volumes"])
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}
    assert used == set(COMPOSE["secrets"])
    for path in re.findall(r"/etc/nginx/(tls/\w+\.pem)", NGINX):
        assert path in script


def test_images_are_pinned() -> None:
    for service in SERVICES.values():
        assert service["image"] == "session-gateway" or re.search(r":v?\d+\.\d+", service["image"]), service["image"]


# --- the proxy -------------------------------------------------------------------------------------------------------


def directives(name: str, text: str = NGINX) -> list[str]:
    return re.findall(rf"^\s+{name} ([^;]+);", text, re.MULTILINE)


def location(path: str) -> str:
    block = re.search(rf"location {re.escape(path)} {{(.*?)\n        }}", NGINX, re.DOTALL)
    assert block is not None
    return block[1]


def test_the_proxy_outlasts_a_heartbeat_and_the_gateway_outlasts_the_proxy() -> None:
    channel = location("= /ws")
    silence = 1.1 * DEFAULTS.channel.heartbeat_s + DEFAULTS.channel.pong_timeout_s
    for name in ("proxy_read_timeout", "proxy_send_timeout"):
        [timeout] = directives(name, channel)
        assert seconds(timeout) > 2 * silence
    [taking_nothing] = directives("send_timeout", channel)
    assert seconds(taking_nothing) == DEFAULTS.channel.send_timeout_s
    assert directives("proxy_buffering", channel) == ["off"]
    [passed_on] = directives("proxy_next_upstream", channel)
    assert {"error", "timeout", "http_502", "http_503"} <= set(passed_on.split())


def test_the_proxy_has_room_for_the_sessions_of_every_node() -> None:
    sessions = len(NODES) * DEFAULTS.channel.max_sessions
    [connections] = directives("worker_connections")
    descriptors = int(re.findall(r"^worker_rlimit_nofile (\d+);", NGINX, re.MULTILINE)[0])
    assert descriptors == SERVICES["proxy"]["ulimits"]["nofile"] >= int(connections) + 1024
    first, last = map(int, SERVICES["proxy"]["sysctls"]["net.ipv4.ip_local_port_range"].split())
    assert last - first > DEFAULTS.channel.max_sessions
    assert 2 * int(connections) > sessions, "with two workers"


def test_who_asks_is_written_by_the_proxy_itself() -> None:
    headers = dict(text.split(maxsplit=1) for text in directives("proxy_set_header"))
    assert headers == {
        "Host": "$http_host",
        "X-Forwarded-For": "$remote_addr",
        "X-Forwarded-Proto": "$scheme",
        "Upgrade": "$http_upgrade",
        "Connection": "$connection_upgrade",
    }
    assert "proxy_set_header" not in location("= /ws") + location("/"), "one there would undo all of these"


# --- the Procfile ----------------------------------------------------------------------------------------------------


def test_the_procfile_runs_commands_that_exist() -> None:
    lines = (TREE / "Procfile").read_text(encoding="utf-8").splitlines()
    commands = {kind: shlex.split(command) for kind, command in (line.split(": ", 1) for line in lines)}
    assert commands.keys() == {"release", "web"}
    assert all(command[0] == "gateway" for command in commands.values())
    assert understood(commands["release"][1:]) == "migrate"
    port = commands["web"].pop()
    assert port == f"${{PORT:-{PORT}}}"
    assert understood([*commands["web"][1:], "5000"]) == "serve"


# --- the commands of docs/operations.md ------------------------------------------------------------------------------


def shell_lines(program_name: str) -> list[list[str]]:
    text = (TREE / "docs" / "operations.md").read_text(encoding="utf-8")
    found = [shlex.split(line) for line in re.findall(rf"^    ({program_name} .+)$", text, re.MULTILINE)]
    assert found
    return found


def test_what_is_done_to_the_composition_can_be_done() -> None:
    for line in shell_lines("docker compose"):
        assert line[2:4] == ["--file", "deploy/compose.yaml"]
        subcommand, *rest = [word for word in line[4:] if not word.startswith("--") and not word.startswith("SIG")]
        assert subcommand in {"up", "run", "build", "kill"}
        if subcommand == "run":
            assert "entrypoint" not in SERVICES[rest[0]]
            understood(rest[1:] or SERVICES[rest[0]]["command"])
        else:
            assert set(rest) <= set(SERVICES)


def test_the_image_is_built_and_run_as_it_is_written() -> None:
    [[*build], [*run]] = shell_lines(r"docker (?:build|run)")
    assert build[build.index("--file") + 1] == "deploy/Dockerfile"
    assert build[-1] == "."
    assert run[-1] == build[build.index("--tag") + 1] == "session-gateway"
    assert run[run.index("--volume") + 1].split(":")[1] == of_image("VOLUME")[0]
    assert run[run.index("--publish") + 1].endswith(f":{PORT}")
    assert float(run[run.index("--stop-timeout") + 1]) > DEFAULTS.server.drain_s + 2 * STOP_GRACE_S


def test_the_files_that_are_run_exist() -> None:
    for line in [*shell_lines("deploy/make-secrets"), *shell_lines("python deploy/durability.py")]:
        [file] = [word for word in line if word.startswith("deploy/")]
        assert (TREE / file).exists()


def test_the_proxy_of_one_gateway_writes_what_the_shipped_one_does() -> None:
    [block] = [block.text for block in Markdown("operations.md").blocks_of("nginx")]
    shipped, written = (
        {text.split()[0]: text.split()[1].strip('"') for text in directives("proxy_set_header", configuration)}
        for configuration in (NGINX, block)
    )
    assert written == {**shipped, "Connection": "upgrade"}
    assert {
        seconds(text) for name in ("proxy_read_timeout", "proxy_send_timeout") for text in directives(name, block)
    } == {seconds(directives("proxy_read_timeout", location("= /ws"))[0])}


def test_the_configuration_of_the_copies_names_a_database() -> None:
    [block] = Markdown("operations.md").blocks_of("yaml")
    [database] = yaml.safe_load(block.text)["dbs"]
    assert Path(database["path"]).name == Path(DEFAULTS.database.url).name
    assert (
        database["path"] in (TREE / "docs" / "operations.md").read_text(encoding="utf-8").split("litestream restore")[1]
    )


def test_the_proxy_waits_for_those_who_wait_for_changes() -> None:
    """A request that waits as long as it may is answered before the proxy gives it up."""
    everything_else = NGINX.partition("location / {")[2].partition("}")[0]
    [timeout] = re.findall(r"proxy_read_timeout (\S+);", everything_else)
    assert seconds(timeout) >= MAX_WAIT_S + 5


def test_the_proxy_leaves_the_headers_of_pages_alone() -> None:
    """Of two policies browsers obey both; what the gateway says stands."""
    assert re.findall(r"\b(add_header|proxy_hide_header|proxy_ignore_headers|more_set_headers)\b", NGINX) == []
