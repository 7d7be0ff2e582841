"""Every private name of Textual that the lab uses, each once, with what it is used for; the rest of the lab
calls the functions below. A test reads :data:`PRIVATE_NAMES` and fails if the installed Textual does not have
one of them."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import CodeType
from typing import IO, Any, cast
from weakref import WeakKeyDictionary

from textual import content, keys
from textual._compositor import CompositorUpdate
from textual.app import App
from textual.binding import BindingsMap
from textual.cache import LRUCache
from textual.css.stylesheet import Stylesheet
from textual.dom import DOMNode
from textual.drivers import linux_driver
from textual.drivers._writer_thread import WriterThread
from textual.drivers.linux_driver import LinuxDriver
from textual.geometry import Size
from textual.message import Message
from textual.message_pump import MessagePump
from textual.screen import Screen
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Footer, OptionList
from textual.widgets._footer import FooterKey
from textual.worker import WorkerFailed

from tui_lab.ui.terminal.types import AnyApp, AnyScreen

__all__ = ["CompositorUpdate", "FooterKey"]

#: The version in whose source these names were read.
TEXTUAL_VERSION = "8.2.8"
#: (owner, private name, what the lab uses it for).
PRIVATE_NAMES: tuple[tuple[object, str, str], ...] = (
    (App, "_keymap", "the user's keys, for texts that name keys"),
    (App, "_screen_stacks", "screens of all panes, to redraw headers and plots"),
    (Footer, "_bindings_ready", "whether there is anything to show in the footer"),
    (App, "_batch_count", "whether a frame is held back"),
    (App, "_exit", "whether the app is closing"),
    (MessagePump, "_closing", "whether a screen is being taken down"),
    (Widget, "_pruning", "whether a screen is being taken down"),
    (App, "_exception", "the error that has ended the app"),
    (App, "_fatal_error", "overridden: a traceback goes to a log and not to the terminal"),
    (App, "_loop", "to end the app from a signal handler"),
    (App, "_driver", "to stop writing to a terminal that no longer reads"),
    (App, "_display", "overridden: only changed cells are sent"),
    (App, "_watch_theme", "to apply a theme whose file has changed"),
    (Screen, "_binding_chain", "overridden: applies the user's keys"),
    (Screen, "_screen_resized", "replaced: a late resize lays out for the present window"),
    (Screen, "_callbacks", "to call back once after a lay-out"),
    (Screen, "_invoke_later", "to call back once after a lay-out"),
    (MessagePump, "_get_message", "replaced: a widget with many messages lets others run"),
    (LinuxDriver, "attrs_before", "to restore the terminal of a lab that does not end"),
    (LinuxDriver, "fileno", "to restore the terminal of a lab that does not end"),
    (DOMNode, "_bindings", "the bindings of a widget, to give them other keys"),
    (MessagePump, "_on_message", "overridden in the palette: a command runs once"),
    (OptionList, "_move_page", "replaced: fails in a list without rows"),
    (OptionList, "_lines", "whether a list has rows"),
    (LinuxDriver, "_writer_thread", "to stop writing to a terminal that no longer reads"),
    (WriterThread, "_queue", "to stop writing to a terminal that no longer reads"),
    (Stylesheet, "_parse_cache", "to parse each style sheet once"),
    (Stylesheet, "_variables", "to parse style sheets again only when colours change"),
    (keys, "_character_to_key", "names of keys that users write as characters"),
)
#: Parsed style sheets that are kept: more than there are kinds of widgets.
STYLE_SHEETS = 1024
#: How often a wait for the terminal looks whether it is to go on.
WAIT_S = 0.1
#: Public, but replaced by the lab (see textual_patches).
REPLACED: tuple[tuple[object, str], ...] = (
    (content, "divide_line"),
    (Timer, "__init__"),
    (Stylesheet, "__init__"),
    (Stylesheet, "set_variables"),
    (Stylesheet, "reparse"),
    (linux_driver, "WriterThread"),
)


def _names_in(owner: object) -> set[str]:
    """The names that a class or a module defines or its functions use."""
    names = set(vars(owner))
    codes = [
        code
        for each in vars(owner).values()
        if (code := getattr(inspect.unwrap(getattr(each, "fget", each)), "__code__", None)) is not None
    ]
    while codes:
        code = codes.pop()
        names.update(code.co_names)
        codes += [each for each in code.co_consts if isinstance(each, CodeType)]
    return names


def missing_names() -> list[str]:
    """A sentence for each name that the lab needs and the installed Textual does not have."""
    found = []
    for owner, name, use in (*PRIVATE_NAMES, *((*each, "a replacement of its own") for each in REPLACED)):
        if name not in _names_in(owner):
            where = getattr(owner, "__name__", str(owner))
            found.append(f"Textual has no {where}.{name} any more, which the lab uses for: {use}.")
    return found


def keymap_of(node: DOMNode) -> Mapping[str, str]:
    """The user's keys by action id."""
    return node.app._keymap


def all_screens(app: AnyApp) -> Iterator[AnyScreen]:
    """The screens of every pane, the modal ones above them included."""
    for stack in app._screen_stacks.values():
        yield from stack


def has_been_shown(app: AnyApp, mode: str) -> bool:
    """Whether the screen of a mode exists."""
    return bool(app._screen_stacks.get(mode))


def is_batching(app: AnyApp) -> bool:
    """Whether frames are held back, as while a pane is mounted."""
    return app._batch_count > 0


def is_closing(app: AnyApp) -> bool:
    """Whether the app ends: a widget that is mounted now would never be shown."""
    return app._exit or not app.is_running


def is_taken_down(widget: Widget) -> bool:
    """Whether a widget is being removed, or the app ends: Textual mounts nothing in it any more."""
    return widget._closing or widget._pruning or not widget.is_attached


def bindings_of(node: DOMNode) -> BindingsMap:
    """A copy of the bindings of a widget, a screen or the app."""
    return node._bindings.copy()


def apply_theme_again(app: AnyApp) -> None:
    """Applies the current theme after its definition has changed."""
    app._watch_theme(app.theme)


def character_to_key(character: str) -> str:
    """Textual's name of the key that types a character."""
    return keys._character_to_key(character)


def drop_detached_watchers(widget: Widget) -> None:
    """Removes watchers of widgets that are no longer attached. Textual 8.2.8 removes them only when the
    watched value changes, so that removed footer keys would stay in memory."""
    for watchers in getattr(widget, "__watchers", {}).values():
        watchers[:] = [(each, callback) for each, callback in watchers if each.is_attached]


# ------------------------------------------------------------------ ending


def exit_from_signal(app: AnyApp | None, return_code: int) -> bool:
    """Ends the app from a signal handler; False if its event loop has not started."""
    loop = app._loop if app is not None else None
    if app is None or loop is None:
        return False
    with contextlib.suppress(RuntimeError):  # the loop is closed: the app has ended
        loop.call_soon_threadsafe(app.exit, None, return_code)
    return True


def unexpected_error(app: AnyApp) -> BaseException | None:
    """The first error that no handler, worker or timer has caught, and that has ended the app."""
    error = app._exception
    return error.error if isinstance(error, WorkerFailed) else error


class TerminalWriter(WriterThread):
    """Textual's writing thread; nobody waits for it any more once :meth:`discard` was called. A write to a
    terminal that is not read blocks forever, and Textual waits for the thread with every text while its queue
    is full, and when the app ends."""

    def __init__(self, file: IO[str]) -> None:
        super().__init__(file)
        self._discards = threading.Event()

    def write(self, text: str | None) -> None:
        """Queues a text; waits while the queue is full."""
        while not self._discards.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(cast("str", text), timeout=WAIT_S)
                return

    def stop(self) -> None:
        """Waits until everything is written."""
        self.write(None)
        while self.is_alive() and not self._discards.is_set():
            self.join(WAIT_S)

    def discard(self) -> None:
        """Writes nothing from now on."""
        self._discards.set()


def use_terminal_writer() -> None:
    """Lets Textual write to the terminal with a :class:`TerminalWriter`."""
    cast("Any", linux_driver).WriterThread = TerminalWriter


def discard_output(app: AnyApp | None) -> bool:
    """Writes nothing to the terminal from now on; False if there is no writing thread."""
    driver = app._driver if app is not None else None
    writer = driver._writer_thread if isinstance(driver, LinuxDriver) else None
    if not isinstance(writer, TerminalWriter):
        return False
    writer.discard()
    return True


def write_sequences(app: AnyApp, text: str) -> None:
    """Writes control sequences to the terminal between two frames."""
    if app._driver is not None:
        app._driver.write(text)


def terminal_state(app: AnyApp | None) -> tuple[int, list[Any]] | None:
    """The descriptor of the app's terminal and its attributes before the app; None without a terminal."""
    driver = app._driver if app is not None else None
    if not isinstance(driver, LinuxDriver) or driver.attrs_before is None:
        return None
    return driver.fileno, driver.attrs_before


def call_in_loop(app: AnyApp | None, callback: Callable[[], object]) -> None:
    """Calls back from the app's event loop, if that runs. From any thread."""
    if app is not None and app._loop is not None:
        with contextlib.suppress(RuntimeError):  # it is closed
            app._loop.call_soon_threadsafe(callback)


# ------------------------------------------------------------------ resizing


def call_after_layout(widget: Widget, callback: Callable[[], None]) -> None:
    """Calls back when the screen has been laid out and drawn; once, however often it is asked for until then.
    For ``on_resize``: ``call_after_refresh`` would put a message between two pending resizes, which Textual
    joins only when they follow each other. The widget's own screen calls: one above it may close first."""
    if widget.is_attached and all(callback != waiting for waiting, _ in widget.screen._callbacks):
        widget.screen._invoke_later(callback, widget)


screen_resized = Screen._screen_resized


def _screen_resized_to_window(screen: AnyScreen, _size: Size) -> None:
    screen_resized(screen, screen.app.size)


def follow_the_window() -> None:
    """A screen is always laid out for the present size of the window. Textual 8.2.8 lays it out for the size
    of the message, and every change of size posts another one: two pending resizes of different sizes chase
    each other without end."""
    cast("Any", Screen)._screen_resized = _screen_resized_to_window


#: Seconds that a widget handles messages before others run.
LONGEST_TURN_S = 0.05
get_message = MessagePump._get_message
_turn_began: WeakKeyDictionary[MessagePump, float] = WeakKeyDictionary()


async def _get_message_in_turn(pump: MessagePump) -> Message:
    now = time.monotonic()
    if now - _turn_began.get(pump, 0.0) > LONGEST_TURN_S:
        await asyncio.sleep(0)
        _turn_began[pump] = time.monotonic()
    return await get_message(pump)


def take_turns() -> None:
    """A widget whose queue is never empty lets the event loop run: Textual 8.2.8 would neither read keys nor
    end."""
    cast("Any", MessagePump)._get_message = _get_message_in_turn


# ------------------------------------------------------------------ patches


move_page = OptionList._move_page


def _move_page_with_rows(options: OptionList, direction: int) -> None:
    if options._lines:
        move_page(options, cast("Any", direction))


def guard_page_keys() -> None:
    """Page up and Page down do nothing in a list without rows, where Textual 8.2.8 fails."""
    cast("Any", OptionList)._move_page = _move_page_with_rows


_make_style_sheet, _set_variables = Stylesheet.__init__, Stylesheet.set_variables


def _make_style_sheet_that_keeps(sheet: Stylesheet, *, variables: dict[str, str] | None = None) -> None:
    _make_style_sheet(sheet, variables=variables)
    sheet._parse_cache = LRUCache(STYLE_SHEETS)


def _set_variables_that_differ(sheet: Stylesheet, variables: dict[str, str]) -> None:
    if variables != sheet._variables:
        _set_variables(sheet, variables)


def keep_parsed_styles() -> None:
    """A style sheet is parsed again only when the colours change. Textual does it whenever a pane is first
    shown, and keeps 64 of them, fewer than the lab has."""
    Stylesheet.__init__ = _make_style_sheet_that_keeps  # type: ignore[method-assign,assignment]
    Stylesheet.set_variables = _set_variables_that_differ  # type: ignore[method-assign,assignment]
    Stylesheet.reparse = Stylesheet.parse  # type: ignore[method-assign]
