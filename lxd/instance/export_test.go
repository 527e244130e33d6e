package instance

// Pause is what the tests look at of the default pause.
var Pause = pause
