# failures.awk: of what 'go test -v' has printed, the first lines that failed tests have said, for the
# end of a long log.

/^=== (RUN|CONT|NAME) / { test = $3; next }
/^ *--- / {
	if ($2 == "FAIL:") failed[++n] = $3
	next
}
test != "" && lines[test] < 8 && $0 !~ /left behind: / {
	said[test] = said[test] substr($0, 1, 400) "\n"
	lines[test]++
}
END {
	for (i = 1; i <= n; i++)
		if (said[failed[i]] != "") printf "--- FAILED: %s\n%s", failed[i], said[failed[i]]
}
