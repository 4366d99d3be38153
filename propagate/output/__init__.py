"""What a run leaves behind: masks, overlay video, contact sheet, run.json."""
