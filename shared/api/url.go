package api

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
)

// ProjectDefaultName is the project that URLs do not mention.
const ProjectDefaultName = "default"

func escape(name string) string { return url.PathEscape(name) }

func projectURL(path, project string) string {
	if project == "" || project == ProjectDefaultName {
		return path
	}
	return path + "?project=" + url.QueryEscape(project)
}

// encodeToken returns the form in which tokens are handed from one administrator
// to the other. The types given to it always marshal.
func encodeToken(t any) string {
	b, err := json.Marshal(t)
	if err != nil {
		return ""
	}
	return base64.StdEncoding.EncodeToString(b)
}
