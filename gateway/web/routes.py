"""The table of routes."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, WebSocketRoute

from gateway.auth.services import Accounts
from gateway.config import Config
from gateway.core.networks import Networks
from gateway.errors import UpgradeRequired
from gateway.live.node import Node
from gateway.web.adjustments import Adjustments
from gateway.web.admin import Administration
from gateway.web.assets import DASHBOARD, Assets, sdk_directory
from gateway.web.asyncapi import AsyncApi
from gateway.web.audit import AuditTrail
from gateway.web.caller import Callers
from gateway.web.change_log import ChangeLog
from gateway.web.channel import Channel
from gateway.web.cookies import Cookies
from gateway.web.credentials import Credentials
from gateway.web.grants import UserGrants
from gateway.web.health import Health
from gateway.web.identity import Identity
from gateway.web.insight import Insight
from gateway.web.instances import InstanceRoutes
from gateway.web.login import Login
from gateway.web.members import Members
from gateway.web.oauth import OAuth
from gateway.web.openapi import OpenApi
from gateway.web.operation import Operation, WholeRoute, operation_routes
from gateway.web.organizations import Organizations
from gateway.web.origins import Origins
from gateway.web.plans import Plans
from gateway.web.previews import Previews
from gateway.web.problem import problem
from gateway.web.quotas import Spending
from gateway.web.registration import Registrations
from gateway.web.roles import Roles
from gateway.web.signing import Signing
from gateway.web.turns import Turns
from gateway.web.users import Users
from gateway.web.validation import Validation
from gateway.web.well_known import WellKnown

CHANNEL_PATH = "/ws"


def channel(node: Node, accounts: Accounts, config: Config) -> Channel:
    """The application behind the channel's path."""
    proxies = Networks(config.server.trusted_proxies)
    return Channel(
        node,
        Signing(accounts.instances, proxies),
        allowed_origins=config.server.allowed_origins,
        proxies=proxies,
        send_buffer_bytes=config.channel.send_buffer_bytes,
    )


def routes(node: Node, accounts: Accounts, config: Config) -> list[BaseRoute]:
    """All routes of the gateway."""
    proxies = Networks(config.server.trusted_proxies)
    cookies = Cookies(
        accounts.signed,
        Origins(config.server.allowed_origins, proxies),
        access_ttl_s=config.auth.access_ttl_s,
        refresh_ttl_s=config.auth.refresh_ttl_s,
    )
    callers = Callers(node, accounts.authenticator, cookies, Signing(accounts.instances, proxies))
    return [
        WebSocketRoute(CHANNEL_PATH, channel(node, accounts, config)),
        WholeRoute(CHANNEL_PATH, upgrade_needed),
        *(WholeRoute(path, to_dashboard) for path in ("/dashboard", "/dashboard/")),
        *operation_routes(operations(node, accounts, config, callers, cookies), callers, node.metrics, proxies),
    ]


async def upgrade_needed(request: Request) -> Response:
    """To whoever asks for the channel's path without opening a channel (RFC 9110 §15.5.22)."""
    response = problem(UpgradeRequired("This is the channel: a WebSocket is opened here."))
    response.headers.update({"Upgrade": "websocket", "Connection": "Upgrade"})
    return response


async def to_dashboard(request: Request) -> Response:
    """The page is at the root; below this path is what it loads."""
    return Response(status_code=308, headers={"Location": "/", "Cache-Control": "no-store"})


def operations(node: Node, accounts: Accounts, config: Config, callers: Callers, cookies: Cookies) -> list[Operation]:
    """All that can be asked by HTTP."""
    auth, turns = config.auth, Turns()

    def wall() -> int:
        return node.clock.now().wall

    resources = (
        Health(node, metrics_networks=Networks(config.admin.metrics_networks)),
        Identity(node, callers, config.server.api_base),
        Spending(node.quotas, config.server.api_base),
        Login(accounts, cookies, wall),
        Registrations(node.database, accounts),
        Validation(node),
        Credentials(node.database, accounts.revocations, cookies, wall),
        Users(node.database, accounts.revocations, turns),
        UserGrants(node.database, turns),
        Adjustments(node.database, node.quotas.bases, turns, wall),
        Plans(node.database, turns),
        Previews(node),
        Roles(node.database, turns),
        Organizations(node.database, turns),
        Members(node.database, turns),
        InstanceRoutes(node.database, accounts.instances, turns),
        AuditTrail(node.database),
        Administration(accounts.revoker, wall),
        Insight(node),
        ChangeLog(node),
        OAuth(node.database, accounts.access_tokens, accounts.revoker, auth, wall),
        WellKnown(accounts.keyring, auth.issuer, wall),
        AsyncApi(CHANNEL_PATH, auth.issuer),
        Assets(DASHBOARD, sdk_directory()),
    )
    table = [operation for resource in resources for operation in resource.operations()]
    return [*table, *OpenApi(table).operations()]
