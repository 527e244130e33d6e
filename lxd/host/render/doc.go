// Package render turns the templates of images into text.
//
// Templates come with images from anywhere, and their language has loops and macros
// that call themselves: nothing inside a process can end one that does not want to.
// So they are rendered in a child process without files, network or powers, which is
// killed when it takes too long or too much. It gets all that a template may read as
// one message and answers with one.
package render
