package api

import "fmt"

// StatusCode is the number behind the status of an operation or an instance.
// From 200 on a status is final.
type StatusCode int

// The status codes.
const (
	OperationCreated StatusCode = 100
	Started          StatusCode = 101
	Stopped          StatusCode = 102
	Running          StatusCode = 103
	Cancelling       StatusCode = 104
	Pending          StatusCode = 105
	Starting         StatusCode = 106
	Stopping         StatusCode = 107
	Aborting         StatusCode = 108
	Freezing         StatusCode = 109
	Frozen           StatusCode = 110
	Thawed           StatusCode = 111
	Error            StatusCode = 112
	Ready            StatusCode = 113

	Success StatusCode = 200

	Failure   StatusCode = 400
	Cancelled StatusCode = 401
)

// String returns the word that stands beside the code in the API.
func (c StatusCode) String() string {
	switch c {
	case OperationCreated:
		return "Operation created"
	case Started:
		return "Started"
	case Stopped:
		return "Stopped"
	case Running:
		return "Running"
	case Cancelling:
		return "Cancelling"
	case Pending:
		return "Pending"
	case Starting:
		return "Starting"
	case Stopping:
		return "Stopping"
	case Aborting:
		return "Aborting"
	case Freezing:
		return "Freezing"
	case Frozen:
		return "Frozen"
	case Thawed:
		return "Thawed"
	case Error:
		return "Error"
	case Ready:
		return "Ready"
	case Success:
		return "Success"
	case Failure:
		return "Failure"
	case Cancelled:
		return "Cancelled"
	}
	return ""
}

// IsFinal reports whether nothing follows this status.
func (c StatusCode) IsFinal() bool { return c >= Success }

// StatusCodeFromString is the way back from the word to the code.
func StatusCodeFromString(status string) (StatusCode, error) {
	for _, c := range []StatusCode{
		OperationCreated, Started, Stopped, Running, Cancelling, Pending, Starting, Stopping,
		Aborting, Freezing, Frozen, Thawed, Error, Ready, Success, Failure, Cancelled,
	} {
		if c.String() == status {
			return c, nil
		}
	}
	return 0, fmt.Errorf("Status %q is not known", status)
}
