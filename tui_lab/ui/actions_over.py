"""Actions of the screens and widgets that lie over panes: questions, lists, the token inspector, blind votes,
help. The table of panes is in :mod:`tui_lab.ui.actions`, which puts both together."""

from __future__ import annotations

from tui_lab.ui.action import Action
from tui_lab.ui.actions_setup import SETUP_ACTIONS, SETUP_GROUPS

#: Titles of the groups, in the order of the help screen.
OVER_GROUPS = {
    "form": "Fields of a recipe",
    "editor": "A field that is edited",
    "prompt": "The prompt of Compare",
    "lane": "A lane",
    "inspector": "Token inspector",
    "blind": "Blind A/B",
    "export": "Export",
    "item": "An item of a suite",
    "pick": "Lists to pick from",
    "themes": "Themes",
    "models": "Model for Compare",
    "list": "List of runs",
    "fit": "Ways to fit",
    "ask": "A question for a text",
    "confirm": "A question before something final",
    "help": "Help",
    "keys": "Cheat sheet",
}

# fmt: off
OVER_ACTIONS: tuple[Action, ...] = (
    # --- fields
    Action("form.edit", "enter", "select", "Edit",
           "Edit the field; again keeps the value.", "form"),
    Action("form.reset", "backspace,delete", "reset", "Reset",
           "Give the field its preset's value back.", "form"),
    Action("form.next", "right", "turn(1)", "Next choice",
           "Take the next choice, or turn the switch.", "form"),
    Action("form.previous", "left", "turn(-1)", "Choice before",
           "Take the choice before, or turn the switch.", "form"),
    Action("editor.leave", "escape", "leave", "Leave", "Leave the field as it was.", "editor"),
    # --- the prompt
    Action("prompt.send", "enter", "send", "Run", "Run every lane on the prompt.", "prompt", show=True),
    Action("prompt.line", "ctrl+j,shift+enter", "new_line", "New line", "Begin a new line.", "prompt"),
    Action("prompt.leave", "escape", "leave", "Lanes",
           "Leave the prompt for the lanes.", "prompt", show=True),
    # --- a lane
    Action("lane.up", "up,k", "scroll_text(-1)", "Scroll back", "Scroll the lane's text back.", "lane"),
    Action("lane.down", "down,j", "scroll_text(1)", "Scroll", "Scroll the lane's text on.", "lane"),
    Action("lane.page_up", "pageup", "scroll_text(-10)", "Page back", "Ten lines back.", "lane"),
    Action("lane.page_down", "pagedown", "scroll_text(10)", "Page on", "Ten lines on.", "lane"),
    Action("lane.leave", "escape", "leave", "Leave", "Leave the lane that is edited as it was.", "lane"),
    # --- the inspector
    Action("inspector.back", "left,h", "move(-1)", "Back", "The token before.", "inspector", show=True),
    Action("inspector.on", "right,l", "move(1)", "On", "The next token.", "inspector", show=True),
    Action("inspector.above", "up,k", "move_rows(-1)", "Row above",
           "The token in the row above.", "inspector"),
    Action("inspector.below", "down,j", "move_rows(1)", "Row below",
           "The token in the row below.", "inspector"),
    Action("inspector.first", "home,g", "move(-1000000000)", "First", "The first token.", "inspector"),
    Action("inspector.last", "end,G", "move(1000000000)", "Last", "The last token.", "inspector"),
    Action("inspector.page_back", "pageup", "move_page(-1)", "Back a page",
           "Twenty tokens back.", "inspector"),
    Action("inspector.page_on", "pagedown", "move_page(1)", "On a page", "Twenty tokens on.", "inspector"),
    Action("inspector.surprise", "n", "surprise(1)", "Next surprise",
           "The next token under 1.6 %.", "inspector", show=True),
    Action("inspector.surprise_back", "N,p", "surprise(-1)", "Surprise before",
           "The token before under 1.6 %.", "inspector"),
    Action("inspector.panel", "tab", "panel(1)", "Panel", "The next panel.", "inspector", show=True),
    Action("inspector.panel_back", "shift+tab", "panel(-1)", "Panel before",
           "The panel before.", "inspector"),
    Action("inspector.colours", "c", "colours", "Colours",
           "Colour the text by another model's surprise, or back.", "inspector", show=True),
    Action("inspector.close", "escape,q,enter", "dismiss", "Close", "Back to the comparison.", "inspector",
           show=True),
    # --- blind votes
    Action("blind.first", "1,left,up", "vote('left')", "First", "The first is better.", "blind", show=True,
           display="1 ←"),
    Action("blind.second", "2,right,down", "vote('right')", "Second", "The second is better.", "blind",
           show=True, display="2 →"),
    Action("blind.tie", "0,space", "vote('tie')", "Tie", "They are equally good or bad.", "blind", show=True),
    Action("blind.skip", "s", "vote('skip')", "Skip", "Leave this prompt out.", "blind", show=True),
    Action("blind.again", "r", "again", "Try again",
           "Ask the model again after an error.", "blind", show=True),
    Action("blind.scroll", "pagedown", "scroll_answers(1)", "Scroll", "Further in both answers.", "blind"),
    Action("blind.scroll_back", "pageup", "scroll_answers(-1)", "Scroll back",
           "Back in both answers.", "blind"),
    Action("blind.end", "escape,q", "leave", "End",
           "The outcome so far; once more leaves.", "blind", show=True),
    Action("blind.close", "enter", "close", "Close", "Leave the outcome.", "blind"),
    # --- export
    Action("export.dtype", "d", "dtype", "Precision", "Round whole weights to the next precision.", "export"),
    Action("export.base", "b", "base", "Base", "Copy along a base that no hub has, or do not.", "export"),
    Action("export.leave", "escape,q", "leave", "Leave", "End an export in hand; else leave.", "export"),
    # --- one item of a suite
    Action("item.before", "left,p", "turn(-1)", "Before", "The item before.", "item"),
    Action("item.next", "right,n", "turn(1)", "Next", "The next item.", "item"),
    Action("item.close", "escape,q,enter", "dismiss", "Close", "Back to the pane.", "item"),
    # --- lists
    Action("pick.leave", "escape,q", "leave", "Leave", "Leave the list and take nothing.", "pick"),
    Action("themes.leave", "escape,q", "leave", "Leave",
           "Go back to the theme that was shown before.", "themes"),
    Action("models.precision", "n", "precision", "Precision",
           "Load the model in the next precision.", "models"),
    Action("models.leave", "escape,q", "leave", "Leave", "Leave the list and keep the model.", "models"),
    Action("list.leave", "escape,q,r", "leave", "Leave", "Leave the list and keep the run.", "list"),
    Action("fit.first", "enter", "first", "First", "Take the first way.", "fit"),
    Action("fit.as_it_is", "s", "as_it_is", "As it is", "Start as it is, although it does not fit.", "fit"),
    Action("fit.leave", "escape,q,n", "answer(-2)", "Leave", "Leave the recipe as it is.", "fit"),
    # --- questions
    Action("ask.leave", "escape", "leave", "Leave", "Leave the question without an answer.", "ask"),
    Action("confirm.yes", "y,enter", "answer(True)", "Yes", "Do it.", "confirm"),
    Action("confirm.no", "n,escape,q", "answer(False)", "No", "Do not do it.", "confirm"),
    # --- help
    Action("help.search", "slash", "search", "Search", "Show only lines with a word.", "help", show=True),
    Action("help.close", "escape,q", "leave", "Close", "Leave the search, then the help.", "help", show=True),
    Action("keys.close", "escape,q,enter", "dismiss", "Close", "Back to where you were.", "keys"),
    *SETUP_ACTIONS,
)
# fmt: on
