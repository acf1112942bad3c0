"""``lastmile command``: signed commands to a node, each signed once, kept in the outbox until the node's last word."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agents.issuer import Desk
    from cloud_sync.outbox import Outcome

T = TypeVar("T")

ENDS = """Exit status: 0 done; 1 rejected or failed; 3 unknown (look there); 4 no answer yet, the command is kept;
2 anything that a person has to mend first. Nobody signs twice in doubt: ask with `lastmile command result ID`."""

REFUSED, NO_ANSWER = 1, 4

command = typer.Typer(no_args_is_help=True, help=f"Signed commands to a node. {ENDS}", epilog=ENDS)

As = Annotated[Path, typer.Option("--as", help="issuer.toml: who signs, the broker, the nodes, the outbox.")]
NodeName = Annotated[str, typer.Argument(help="tenant_name")]
Door = Annotated[str, typer.Argument(help="The name on the door.")]
Booking = Annotated[str, typer.Argument(help="The booking's random id.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line, for scripts.")]
Wait = Annotated[float, typer.Option(min=0.0, max=86_400.0, help="Seconds for the node's last word.")]
Days = Annotated[int, typer.Option(min=1, max=45, help="How long it may wait for a node that is off.")]
Rev = Annotated[int | None, typer.Option(min=1, help="The revision, instead of the next one of this outbox.")]
Half = Annotated[Path, typer.Argument(help="The file that the first person made.")]
CosignFile = Annotated[Path, typer.Option("--cosign", help="Where to put the half that the second person signs.")]


@command.command("open", epilog=ENDS)
def command_open(node: NodeName, door: Door, config: As, *, wait: Wait = 45.0, json: Json = False) -> None:
    """Open one door, with a nonce that the node gives out now. Exit 0 only when the door was seen to open."""
    _act(config, json, lambda desk: desk.open(node, door, wait=wait), only=node)


@command.command("release", epilog=ENDS)
def command_release(
    node: NodeName,
    parcel: Booking,
    door: Door,
    shown: Annotated[str, typer.Argument(help="The six digits that the customer reads on the locker's screen.")],
    config: As,
    *,
    wait: Wait = 45.0,
    json: Json = False,
) -> None:
    """Open a parcel's door for its customer, who stands before it. Exit 0 only when it was seen to open."""
    digits = shown.replace(" ", "")
    _act(config, json, lambda desk: desk.release(node, parcel, door, digits, wait=wait), only=node)


@command.command("expect", epilog=ENDS)
def command_expect(  # noqa: PLR0913  each is an option that a person may give
    node: NodeName,
    booking: Booking,
    config: As,
    *,
    size: Annotated[Literal["S", "M", "L"], typer.Option(help="Of the compartment.")],
    hold_hours: Annotated[int, typer.Option(min=1, max=2160, help="From the deposit on.")] = 72,
    low: Annotated[bool, typer.Option("--low", help="Only a door in reach of a seated person will do.")] = False,
    group: Annotated[str, typer.Option(help="A pseudonym: parcels of one customer, collected in one visit.")] = "",
    climate: Annotated[
        Literal["ambient", "cold", "frozen", "heated"], typer.Option(help="At which it must be kept.")
    ] = "ambient",
    days: Days = 30,
    rev: Rev = None,
    wait: Wait = 30.0,
    json: Json = False,
) -> None:
    """A parcel will come under this booking."""
    # What is usual is left out, for nodes of an earlier release.
    asked = {"low": low, "group": group, "climate": "" if climate == "ambient" else climate}
    args = {"size": size, "hold_hours": hold_hours, **{name: value for name, value in asked.items() if value}}
    _book(config, json, node, "expect", booking, args, days=days, rev=rev, wait=wait)


@command.command("extend", epilog=ENDS)
def command_extend(
    node: NodeName,
    booking: Booking,
    config: As,
    *,
    hours: Annotated[int, typer.Option(min=1, max=2160, help="So much longer; once overdue, from now on.")],
    days: Days = 30,
    rev: Rev = None,
    wait: Wait = 30.0,
    json: Json = False,
) -> None:
    """Hold the parcel longer."""
    _book(config, json, node, "extend", booking, {"hours": hours}, days=days, rev=rev, wait=wait)


def _booking_alone(name: str, says: str) -> None:
    """A command that names its booking and nothing else."""

    @command.command(name, epilog=ENDS, help=says)
    def command_booking(
        node: NodeName,
        booking: Booking,
        config: As,
        *,
        days: Days = 30,
        rev: Rev = None,
        wait: Wait = 30.0,
        json: Json = False,
    ) -> None:
        _book(config, json, node, name, booking, {}, days=days, rev=rev, wait=wait)


_booking_alone("cancel", "The parcel will not come after all.")
_booking_alone("reissue", "A new pickup code; the former one and those of all delegates are dead.")
_booking_alone("delegate", "One more pickup code, for somebody whom the customer sends; three at most.")


@command.command("revoke", epilog=ENDS)
def command_revoke(
    node: NodeName,
    booking: Booking,
    which: Annotated[int, typer.Argument(min=1, max=3, help="Whose code: as counted when it was issued.")],
    config: As,
    *,
    days: Days = 30,
    rev: Rev = None,
    wait: Wait = 30.0,
    json: Json = False,
) -> None:
    """The code of one delegate is dead."""
    _book(config, json, node, "revoke", booking, {"which": which}, days=days, rev=rev, wait=wait)


@command.command("redirect", epilog=ENDS)
def command_redirect(
    node: NodeName,
    booking: Booking,
    config: As,
    *,
    to: Annotated[str, typer.Option(help="The node that the parcel goes to instead, as tenant_name.")],
    days: Days = 30,
    rev: Rev = None,
    wait: Wait = 30.0,
    json: Json = False,
) -> None:
    """The parcel goes elsewhere. What lies here already is not handed out any more; a courier takes it along."""
    _book(config, json, node, "redirect", booking, {"to": to}, days=days, rev=rev, wait=wait)


@command.command("recall", epilog=ENDS)
def command_recall(
    node: NodeName,
    booking: Booking,
    config: As,
    *,
    cause: Annotated[Literal["sender", "operator"], typer.Option(help="Who wants it back.")] = "operator",
    days: Days = 30,
    rev: Rev = None,
    wait: Wait = 30.0,
    json: Json = False,
) -> None:
    """The parcel is not for its customer any more. What lies here already, a courier takes along."""
    _book(config, json, node, "recall", booking, {"cause": cause}, days=days, rev=rev, wait=wait)


@command.command("audit", epilog=ENDS)
def command_audit(node: NodeName, config: As, *, out: CosignFile, json: Json = False) -> None:
    """Begin to have every door looked behind, by a service badge at the kiosk, for four hours. Two people sign."""
    from locker.commands import ALL_DOORS

    _half(config, json, out, node, "audit", ALL_DOORS, {})


@command.command("clear", epilog=ENDS)
def command_clear(
    node: NodeName,
    door: Door,
    config: As,
    *,
    out: CosignFile,
    parcel: Annotated[
        list[str] | None, typer.Option(help="A parcel known to be inside, to be declared gone (repeat).")
    ] = None,
    json: Json = False,
) -> None:
    """Begin to declare a compartment empty and sound. Two people sign, within the minute that the nonce lives."""
    args: dict[str, object] = {"door": door}
    if parcel:
        args |= {"parcel": parcel[0], **({"also": parcel[1:]} if parcel[1:] else {})}
    _half(config, json, out, node, "clear", door, args)


@command.command("cosign")
def command_cosign(
    half: Half,
    config: As,
    *,
    first_key: Annotated[Path, typer.Option("--first-key", help="The first person's public key.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Look at what the first person signed, and sign it as the second."""
    from agents.two_persons_file import add_second, read_half

    first = read_half(half, first_key)
    for line in first.told():
        typer.echo(line)
    if not yes:
        typer.confirm("sign it?", abort=True)
    add_second(first, config)
    typer.echo(f"{half}: signed by both; lastmile command send {half}")


@command.command("send", epilog=ENDS)
def command_send(signed: Half, config: As, *, wait: Wait = 45.0, json: Json = False) -> None:
    """Publish a command that two people have signed."""
    from agents.two_persons_file import read_whole

    claims, token = read_whole(signed)
    _act(config, json, lambda desk: desk.submit(claims, token, wait=wait), only=claims.aud.partition("/")[0])


@command.command("result", epilog=ENDS)
def command_result(
    command_id: Annotated[str, typer.Argument(metavar="ID")], config: As, *, wait: Wait = 45.0, json: Json = False
) -> None:
    """What became of a command. Without a last word the same bytes are published again, and the node says it."""
    _act(config, json, lambda desk: desk.outcome(command_id, wait=wait))


@command.command("pending")
def command_pending(
    config: As,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Also those that are final, the newest 100.")] = False,
    json: Json = False,
) -> None:
    """The commands without a last word. Nothing is published."""
    from agents.command_view import show

    show(config, everything=everything, json=json)


@command.command("resume", epilog=ENDS)
def command_resume(config: As, *, json: Json = False) -> None:
    """Go on publishing what has no last word, until all of it has one or Ctrl-C. Any number may do so at once."""

    async def settle(desk: Desk) -> bool:
        await desk.settle()
        return True

    if _at_desk(config, json, settle):
        typer.echo("every command has its last word")


def _half(config: Path, json: bool, out: Path, *what: Any) -> None:  # noqa: FBT001  handed through
    """Sign a command that two people sign, as the first of them."""
    from agents.two_persons_file import write_half

    half = _at_desk(config, json, lambda desk: desk.half(*what), only=what[0])
    if half is not None:
        write_half(out, half)
        typer.echo(
            f"{out}: signed by the first person; let another say `lastmile command cosign {out}` within a minute"
        )


def _book(config: Path, json: bool, *what: Any, **how: Any) -> None:  # noqa: FBT001  handed through
    _act(config, json, lambda desk: desk.book(*what, **how), only=what[0])


def _act(config: Path, json: bool, work: Callable[[Desk], Awaitable[Outcome]], *, only: str = "") -> None:  # noqa: FBT001
    """Do one command, say its outcome, and end with the status that stands for it."""
    from agents.command_view import final_line, status

    outcome = _at_desk(config, json, work, only=only)
    if outcome is not None:
        typer.echo(final_line(outcome, json=json))
        sys.exit(status(outcome))


def _at_desk(config: Path, json: bool, work: Callable[[Desk], Awaitable[T]], *, only: str = "") -> T | None:  # noqa: FBT001
    """What ``work`` returns. Ends the program where no answer came, and at Ctrl-C, saying how to ask again."""
    import asyncio
    import secrets

    from agents.command_view import Teller, refusal_line
    from agents.issuer import NoAnswer, Refused, at_desk
    from agents.settings import IssuerSettings
    from edge import log
    from edge.settings_file import read_settings
    from edge.system_clock import SystemClock

    # Standard output is for the outcome, and for scripts.
    log.configure(level="warning", stream=sys.stderr, pretty=True)
    settings = read_settings(config, IssuerSettings)
    teller = Teller(json=json)

    async def story() -> T:
        desk_of = at_desk(
            settings, config.parent, clock=SystemClock(), random=secrets.token_bytes, say=teller.say, only=only
        )
        async with desk_of as desk:
            return await work(desk)

    try:
        with teller:
            return asyncio.run(story())
    except Refused as refused:
        typer.echo(refusal_line(refused, json=json))
        sys.exit(REFUSED)
    except NoAnswer as error:
        typer.echo(f"lastmile: {error}", err=True)
        sys.exit(NO_ANSWER)
    except KeyboardInterrupt:
        typer.echo(f"lastmile: stopped; {teller.advice(config)}", err=True)
        sys.exit(NO_ANSWER)
