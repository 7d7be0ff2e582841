"""How Setup lays out its lists and the card in windows of each size."""

SETUP_CSS = """
    SetupPane #body { height: 1fr; layout: vertical; }
    SetupPane #sections { height: 1fr; }
    SetupPane #data Chooser { height: 6; }
    SetupPane.-medium #data Chooser, SetupPane.-tall #data Chooser { height: 9; }
    SetupPane #data Chooser .foot { height: 1; }
    SetupPane #summary { height: 9; max-height: 43%; }
    SetupPane.-short.-data #summary, SetupPane.-short.-fields #summary { height: 7; }
    SetupPane.-medium #summary, SetupPane.-tall #summary { height: 16; max-height: 50%; }
    SetupPane.-normal #body, SetupPane.-wide #body { layout: horizontal; }
    SetupPane.-normal #body #summary { height: 100%; max-height: 100%; width: 46; }
    SetupPane.-wide #body #summary { height: 100%; max-height: 100%; width: 28%; min-width: 52; }
    SetupPane.-wide TabBar { display: none; }
    SetupPane.-wide #sections {
        layout: grid; grid-size: 2 2; grid-columns: 7fr 5fr; grid-rows: 1fr 1fr;
    }
    SetupPane.-medium #presets OptionList, SetupPane.-tall #presets OptionList {
        height: auto; max-height: 70%;
    }
    SetupPane.-medium #presets .foot, SetupPane.-tall #presets .foot { height: 1fr; padding: 1; }
    SetupPane.-narrow .part.panel, SetupPane.-short .part.panel,
    SetupPane.-narrow .part.panel:focus-within, SetupPane.-short .part.panel:focus-within {
        border: none; padding: 0;
    }
    SetupPane.-narrow #summary.panel, SetupPane.-short #summary.panel { border: none; padding: 0 1; }
    SetupPane.-wide .part { display: block; }
    SetupPane.-wide .part.panel, SetupPane.-normal.-medium .part.panel, SetupPane.-normal.-tall .part.panel {
        border: round $border-blurred;
    }
    SetupPane.-wide .part.panel:focus-within, SetupPane.-normal.-medium .part.panel:focus-within,
    SetupPane.-normal.-tall .part.panel:focus-within { border: round $primary; }
    """
