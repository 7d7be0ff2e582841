"""What every layer uses: errors, formatting, files, settings, child processes and the job protocol."""
