"""What synthetic phone screens look like: a function for each kind of screen."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from rlrules.data import screen_words as words
from rlrules.data.canvas import WIDTH_DP, Canvas, Color, PixelBox, joined

STATUS, BAR, FOOT = 28.0, 56.0, 24.0
"""Heights, in dp, of the status bar, of an app's bar, and of the strip that gestures begin in."""


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of a screen.

    Attributes:
        ground: Behind everything.
        surface: Of cards and fields.
        ink: Of text and icons.
        muted: Of what matters less.
        accent: Of what can be acted on.
        on_accent: Of text on the accent.
        line: Between rows.
    """

    ground: Color
    surface: Color
    ink: Color
    muted: Color
    accent: Color
    on_accent: Color
    line: Color


_LIGHT = ((250, 250, 252), (255, 255, 255), (28, 30, 36), (112, 116, 126))
_DARK = ((18, 20, 24), (34, 37, 44), (236, 238, 242), (152, 157, 168))
ACCENTS = ((25, 103, 210), (0, 121, 107), (192, 57, 43), (106, 62, 179), (191, 96, 0), (34, 119, 62))
_WHITE = (255, 255, 255)


def theme_of(rng: random.Random) -> Theme:
    """Colours, light or dark."""
    light = rng.random() < 0.7
    ground, surface, ink, muted = _LIGHT if light else _DARK
    red, green, blue = rng.choice(ACCENTS)
    # On dark ground a dark accent cannot be read.
    accent = (
        (red, green, blue) if light else (red + (255 - red) // 3, green + (255 - green) // 3, blue + (255 - blue) // 3)
    )
    return Theme(ground, surface, ink, muted, accent, _WHITE, (224, 226, 232) if light else (58, 62, 70))


class Screen:
    """A screen as it is laid out.

    Args:
        canvas: To draw on.
        theme: Its colours.
        rng: Draws what stands on it.
    """

    def __init__(self, canvas: Canvas, theme: Theme, rng: random.Random) -> None:
        self.canvas = canvas
        self.theme = theme
        self.rng = rng
        self.steps: dict[str, list[str]] = {}
        """Instructions for steps other than clicks, by action."""

    @property
    def bottom(self) -> float:
        """Where the app's part of the screen ends."""
        return self.canvas.height - FOOT

    def step(self, action: str, *instructions: str) -> None:
        """Say that a step other than a click makes sense here."""
        self.steps.setdefault(action, []).extend(instructions)

    def further(self, things: str) -> None:
        """Say that there is more below."""
        self.step("scroll", *(text.format(things=things) for text in words.FURTHER))

    def icon(self, name: str, x: float, y: float, size: float = 24, color: Color | None = None) -> None:
        """An icon to click that stands on the screen only once."""
        box = self.canvas.icon(name, x, y, size, color or self.theme.ink)
        self.canvas.element("icon", _wider(box), *asked(words.ICON_WORDS[name][0]), words.ICON_WORDS[name][1])

    def button(self, label: str, left: float, top: float, right: float, filled: bool) -> None:
        """A button to click, 44 dp high."""
        theme = self.theme
        color, outline = (theme.accent, None) if filled else (theme.surface, theme.accent)
        box = self.canvas.panel(left, top, right, top + 44, color, 22, outline)
        self.canvas.text((left + right) / 2, top + 22, label, 15, theme.on_accent if filled else theme.accent, "mm")
        self.canvas.element("text", box, *asked(f"{label!r} button"), f"Choose {label!r}")

    def bar(self, left: str, title: str, *right: str, tinted: bool = False) -> None:
        """An app's bar: an icon, the title, further icons."""
        theme, middle = self.theme, STATUS + BAR / 2
        self.canvas.panel(0, STATUS, WIDTH_DP, STATUS + BAR, theme.accent if tinted else theme.surface)
        ink = theme.on_accent if tinted else theme.ink
        self.icon(left, 28, middle, color=ink)
        self.canvas.text(64, middle, title, 19, ink, room=270 - 44 * len(right))
        for place, name in enumerate(right):
            self.icon(name, WIDTH_DP - 28 - 44 * place, middle, color=ink)
        app = self.rng.choice(list(words.APPS))
        self.step("open_app", *(text.format(app=app) for text in words.START))
        if left == "menu":
            # Beside an arrow or a cross it would be a click as well.
            self.step("navigate_back", *words.EARLIER)

    def frame(self) -> None:
        """What the system draws around every app."""
        theme, canvas = self.theme, self.canvas
        canvas.text(20, STATUS / 2, f"{self.rng.randrange(6, 23)}:{self.rng.randrange(60):02}", 13, theme.ink)
        canvas.icon("wifi", WIDTH_DP - 46, STATUS / 2, 15, theme.ink)
        canvas.icon("battery", WIDTH_DP - 24, STATUS / 2, 16, theme.ink)
        canvas.panel(126, self.bottom + 10, 234, self.bottom + 14, theme.muted, 2)


def asked(noun: str) -> tuple[str, ...]:
    """Ways to ask for a click."""
    return f"Tap the {noun}", f"Click on the {noun}", f"Press the {noun}"


def _wider(box: PixelBox) -> PixelBox:
    # An icon's ink alone is a poor target: a menu's lines are a box of a few pixels' height.
    across, down = box[2] - box[0], box[3] - box[1]
    side = max(across, down)
    more_x, more_y = (side - across + 1) // 2 + side // 6, (side - down + 1) // 2 + side // 6
    return box[0] - more_x, box[1] - more_y, box[2] + more_x, box[3] + more_y


def settings(screen: Screen) -> None:
    """A list with switches and pages behind it."""
    canvas, theme, rng = screen.canvas, screen.theme, screen.rng
    screen.bar(rng.choice(("back", "menu")), "Settings", "search")
    y = STATUS + BAR + 4
    names = rng.sample(list(words.SETTINGS), len(words.SETTINGS))
    for name in names[: int((screen.bottom - y) // 64)]:
        icon, told = words.SETTINGS[name]
        canvas.disc(36, y + 32, 18, theme.line)
        canvas.icon(icon, 36, y + 32, 20, theme.accent)
        switched = rng.random() < 0.4
        canvas.text(72, y + 23, name, 16, theme.ink, room=200)
        canvas.text(72, y + 43, told, 13, theme.muted, room=200)
        row = canvas.box(0, y, 296 if switched else WIDTH_DP, y + 64)
        canvas.element("text", row, *asked(f"{name!r} entry"), f"Open the page of {name!r}")
        if switched:
            on = rng.random() < 0.5
            switch = canvas.panel(304, y + 20, 344, y + 44, theme.accent if on else theme.muted, 12)
            canvas.disc(332 if on else 316, y + 32, 9, _WHITE)
            turned = f"Turn {'off' if on else 'on'} {name!r} with its switch"
            canvas.element("icon", switch, *asked(f"switch beside {name!r}"), turned)
        else:
            canvas.icon("chevron", 336, y + 32, 18, theme.muted)
        y += 64
        canvas.panel(72, y - 0.5, WIDTH_DP, y + 0.5, theme.line)
    if len(names) > (screen.bottom - STATUS - BAR) // 64:
        screen.further("settings")


def inbox(screen: Screen) -> None:
    """Messages, each with a star, and a button to write."""
    canvas, theme, rng = screen.canvas, screen.theme, screen.rng
    screen.bar("menu", rng.choice(("Inbox", "All mail", "Unread")), "person", "search", tinted=rng.random() < 0.4)
    y = STATUS + BAR
    people = rng.sample(words.PEOPLE, len(words.PEOPLE))
    subjects = rng.sample(words.SUBJECTS, len(words.SUBJECTS))
    count = min(len(people), int((screen.bottom - y) // 84))
    for name, subject in zip(people[:count], subjects, strict=False):
        canvas.disc(36, y + 42, 20, rng.choice(ACCENTS))
        canvas.text(36, y + 42, name[0], 18, _WHITE, "mm")
        canvas.text(72, y + 22, name, 16, theme.ink, room=180)
        canvas.text(72, y + 43, subject, 14, theme.ink, room=224)
        canvas.text(72, y + 62, rng.choice(words.SNIPPETS), 13, theme.muted, room=224)
        canvas.text(344, y + 22, f"{rng.randrange(1, 12)}:{rng.randrange(60):02}", 12, theme.muted, "rm")
        row = canvas.box(0, y, 304, y + 84)
        canvas.element("text", row, *asked(f"message from {name}"), f"Read what {name} wrote", f"Open {subject!r}")
        star = canvas.icon("star", 332, y + 56, 22, rng.choice((theme.muted, (240, 180, 0))))
        canvas.element("icon", _wider(star), *asked(f"star of the message from {name}"), f"Star what {name} sent")
        y += 84
        canvas.panel(72, y - 0.5, WIDTH_DP, y + 0.5, theme.line)
    screen.further("messages")
    y = screen.bottom - 68
    # What a round button covers is not to be clicked.
    button = canvas.panel(288, y, 344, y + 56, theme.accent, 18)
    canvas.elements[:] = [one for one in canvas.elements if not _overlap(one.box, button)]
    canvas.icon("pencil", 316, y + 28, 26, theme.on_accent)
    canvas.element("icon", button, *asked(words.ICON_WORDS["pencil"][0]), words.ICON_WORDS["pencil"][1])


def form(screen: Screen) -> None:
    """Fields to fill in and two buttons."""
    canvas, theme, rng = screen.canvas, screen.theme, screen.rng
    screen.bar("close", rng.choice(words.FORMS), "check")
    y = STATUS + BAR + 20
    room = int((screen.bottom - y - 70) // 76)
    for name in rng.sample(list(words.FIELDS), min(len(words.FIELDS), room, rng.randrange(3, 8))):
        canvas.text(20, y + 7, name, 13, theme.muted)
        value = rng.choice(words.FIELDS[name])
        box = canvas.panel(16, y + 18, 344, y + 62, theme.surface, 8, theme.line)
        if rng.random() < 0.3:
            canvas.text(30, y + 40, value, 15, theme.ink)
            canvas.element("text", box, *asked(f"{name!r} field"), f"Select {name!r} to change it")
        else:
            canvas.text(30, y + 40, "Required" if rng.random() < 0.5 else "Optional", 15, theme.muted)
            canvas.element("text", box, *asked(f"empty {name!r} field"), f"Select {name!r} to fill it in")
            screen.step("input_text", f"Type {value!r} into the {name!r} field", f"Enter {value!r} as {name!r}")
        y += 76
    sides = [(16, 172), (188, 344)]
    rng.shuffle(sides)
    screen.button(rng.choice(("Save", "Submit", "Continue")), sides[0][0], y + 12, sides[0][1], True)
    screen.button(rng.choice(("Cancel", "Reset", "Skip")), sides[1][0], y + 12, sides[1][1], False)


def home(screen: Screen) -> None:
    """Apps on the home screen."""
    canvas, theme, rng = screen.canvas, screen.theme, screen.rng
    field = canvas.panel(20, STATUS + 20, 340, STATUS + 68, theme.surface, 24, theme.line)
    canvas.text(44, STATUS + 44, "Search the web", 15, theme.muted)
    screen.icon("mic", 312, STATUS + 44)
    left = (field[0], field[1], canvas.elements[-1].box[0], field[3])
    canvas.element("text", left, *asked("search field at the top"), "Begin a search of the web")
    apps = iter(rng.sample(list(words.APPS), len(words.APPS)))
    top, rows = STATUS + 104, min(5, int((screen.bottom - STATUS - 110) // 96))
    for row in range(rows):
        for column in range(4):
            name, x = next(apps), 54 + 84 * column
            y = top + 96 * row if row < rows - 1 else screen.bottom - 84
            tile = canvas.panel(x - 28, y, x + 28, y + 56, rng.choice(ACCENTS), 16)
            canvas.icon(words.APPS[name], x, y + 28, 32, _WHITE)
            label = canvas.text(x, y + 68, name, 12, theme.ink, "mm", room=80)
            canvas.element("icon", joined(tile, label), *asked(f"{name} icon"), f"Choose {name} among the apps")


def shop(screen: Screen) -> None:
    """Things to buy in two columns, and tabs below."""
    canvas, theme, rng = screen.canvas, screen.theme, screen.rng
    screen.bar("menu", rng.choice(words.SHOPS), "bell", "filter", tinted=rng.random() < 0.5)
    tabs, top = screen.bottom - 60, STATUS + BAR + 12
    names = rng.sample(list(words.PRODUCTS), 2 * min(6, int((tabs - top) // 204)))
    for place, name in enumerate(names):
        left, y = 12 + 172 * (place % 2), top + 204 * (place // 2)
        canvas.panel(left, y, left + 164, y + 196, theme.surface, 12, theme.line)
        canvas.panel(left + 8, y + 8, left + 156, y + 102, theme.line, 8)
        canvas.icon(words.PRODUCTS[name], left + 82, y + 55, 56, rng.choice(ACCENTS))
        heart = canvas.icon("heart", left + 138, y + 120, 22, rng.choice((theme.muted, (208, 49, 83))))
        canvas.element("icon", _wider(heart), *asked(f"heart of the {name.lower()}"), f"Remember the {name.lower()}")
        title = canvas.text(left + 12, y + 116, name, 15, theme.ink, room=108)
        canvas.element("text", title, *asked(f"name {name!r}"), f"Look at the {name.lower()} by its name")
        canvas.text(left + 12, y + 138, f"${rng.randrange(3, 90)}.{rng.choice(('00', '49', '95'))}", 14, theme.muted)
        button = canvas.panel(left + 12, y + 152, left + 152, y + 186, theme.accent, 17)
        canvas.text(left + 82, y + 169, "Add to cart", 13, theme.on_accent, "mm")
        canvas.element("text", button, f"Add the {name.lower()} to the cart", f"Put the {name.lower()} into the cart")
    canvas.panel(0, tabs, WIDTH_DP, screen.bottom, theme.surface)
    for place, (name, icon) in enumerate(
        {"Start": "home", "Search": "search", "Cart": "cart", "Account": "person"}.items()
    ):
        x, ink = 45 + 90 * place, theme.accent if place == 0 else theme.muted
        drawn = (canvas.icon(icon, x, tabs + 22, 24, ink), canvas.text(x, tabs + 47, name, 12, ink, "mm"))
        canvas.element("icon", joined(*drawn), *asked(f"{name!r} tab"), f"Switch to the {name!r} tab")
    screen.further("things to buy")


def dialog(screen: Screen) -> None:
    """A question over another screen."""
    canvas, theme, rng = screen.canvas, screen.theme, screen.rng
    rng.choice((settings, inbox, shop))(screen)
    canvas.dim()
    screen.steps.clear()
    title, told, yes, no = rng.choice(words.DIALOGS)
    top = canvas.height / 2 - 90
    canvas.panel(24, top, 336, top + 180, theme.surface, 20)
    canvas.text(48, top + 36, title, 18, theme.ink, room=264)
    canvas.text(48, top + 70, told, 14, theme.muted, room=264)
    sides = [(48, 172), (188, 312)]
    rng.shuffle(sides)
    screen.button(yes, sides[0][0], top + 112, sides[0][1], True)
    screen.button(no, sides[1][0], top + 112, sides[1][1], False)


def player(screen: Screen) -> None:
    """A song being played, and those that follow."""
    canvas, theme, rng = screen.canvas, screen.theme, screen.rng
    screen.bar(rng.choice(("back", "menu")), "Now playing", "more", "share")
    side = min(264.0, screen.bottom - STATUS - BAR - 232)
    top, songs = STATUS + BAR + 16, rng.sample(words.SONGS, len(words.SONGS))
    canvas.panel(180 - side / 2, top, 180 + side / 2, top + side, rng.choice(ACCENTS), 16)
    canvas.icon("music", 180, top + side / 2, side / 2, _WHITE)
    y = top + side + 30
    canvas.text(28, y, songs[0], 20, theme.ink, room=240)
    canvas.text(28, y + 25, rng.choice(words.BANDS), 15, theme.muted, room=240)
    screen.icon("heart", 328, y + 12, 26)
    at = rng.uniform(60, 300)
    canvas.panel(28, y + 52, 332, y + 56, theme.line, 2)
    canvas.panel(28, y + 52, at, y + 56, theme.accent, 2)
    canvas.disc(at, y + 54, 7, theme.accent)
    y += 104
    box = canvas.disc(180, y, 32, theme.accent)
    name = rng.choice(("play", "pause"))
    canvas.icon(name, 180, y, 30, theme.on_accent)
    canvas.element("icon", box, *asked(words.ICON_WORDS[name][0]), words.ICON_WORDS[name][1])
    screen.icon("skip", 260, y, 30)
    screen.icon("download", 100, y, 26)
    y += 52
    for song in songs[1 : 1 + max(0, int((screen.bottom - y) // 52))]:
        canvas.panel(28, y + 6, 68, y + 46, rng.choice(ACCENTS), 6)
        canvas.icon("music", 48, y + 26, 20, _WHITE)
        canvas.text(84, y + 26, song, 15, theme.ink, room=200)
        row = canvas.box(16, y, 344, y + 52)
        canvas.element("text", row, *asked(f"song {song!r}"), f"Play {song!r} next")
        y += 52
    screen.further("songs")


def chat(screen: Screen) -> None:
    """Two people's messages and a field for the next one."""
    canvas, theme, rng = screen.canvas, screen.theme, screen.rng
    screen.bar("back", rng.choice(words.PEOPLE), "more", "phone", "camera")
    field = screen.bottom - 64
    y, said = STATUS + BAR + 20, iter(rng.sample(words.CHAT_LINES, len(words.CHAT_LINES)))
    while y + 56 < field and (line := next(said, None)) is not None:
        mine, width = rng.random() < 0.5, 44 + 7.4 * len(line)
        left = WIDTH_DP - 16 - width if mine else 16
        canvas.panel(left, y, left + width, y + 42, theme.accent if mine else theme.line, 18)
        canvas.text(left + width / 2, y + 21, line, 14, theme.on_accent if mine else theme.ink, "mm")
        y += 54
    canvas.panel(0, field, WIDTH_DP, screen.bottom, theme.surface)
    screen.icon("add", 28, field + 32)
    box = canvas.panel(56, field + 10, 300, field + 54, theme.ground, 22, theme.line)
    canvas.text(76, field + 32, "Message", 15, theme.muted)
    canvas.element("text", box, *asked("message field"), "Begin to write a message")
    screen.icon("mic", 332, field + 32)
    text = rng.choice(words.MESSAGES)
    screen.step("input_text", f"Type {text!r} into the message field", f"Write {text!r} as a message")


def _overlap(first: PixelBox, second: PixelBox) -> bool:
    across = min(first[2], second[2]) > max(first[0], second[0])
    return across and min(first[3], second[3]) > max(first[1], second[1])


Layout = Callable[[Screen], None]
LAYOUTS: tuple[Layout, ...] = (settings, inbox, form, home, shop, dialog, player, chat)
