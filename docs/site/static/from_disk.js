// Search results have excerpts, which a page may only fetch from a web server. Opened from the disk there are none.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
