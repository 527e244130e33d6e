package cluster

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// silence is how long a member's kernel may leave what we sent unanswered. A
	// machine that lost its link or its power sends no reset.
	silence = 2 * time.Second
	// listenEvery is how often that is looked at. All connections are looked at in the
	// same moments, so that a daemon with many of them is woken once.
	listenEvery = 500 * time.Millisecond
	// deafProbes is how many questions in a row, whether there is room again, the other
	// kernel may leave unanswered.
	deafProbes = 3
)

// NoticeSilence gives a connection up when the other machine is silent: dead, or behind
// a link that is down. It is not silent as long as its kernel answers, however long its
// program does not read: a guest may take what is sent to it as slowly as it likes. The
// kernel's own bound, TCP_USER_TIMEOUT, makes no difference between the two.
func NoticeSilence(c net.Conn) {
	for {
		over, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		c = over.NetConn()
	}
	t, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	// For when nothing is on its way.
	_ = t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: 500 * time.Millisecond, Count: 3})
	rc, err := t.SyscallConn()
	if err != nil {
		return
	}
	var since time.Time // the last answer, while there is something to be answered
	var look func()
	look = func() {
		i, err := info(rc)
		if err != nil { // it is closed
			return
		}
		switch heard := time.Duration(i.Last_ack_recv) * time.Millisecond; {
		case i.Unacked == 0:
			since = time.Time{}
		case since.IsZero() || heard < time.Since(since):
			since = time.Now()
		}
		if i.Probes >= deafProbes || !since.IsZero() && time.Since(since) >= silence {
			_ = t.Close()
			return
		}
		time.AfterFunc(untilLook(), look)
	}
	time.AfterFunc(untilLook(), look)
}

func untilLook() time.Duration {
	return listenEvery - time.Duration(time.Now().UnixNano())%listenEvery
}

// info is what the kernel knows of a connection.
func info(rc syscall.RawConn) (i *unix.TCPInfo, err error) {
	cerr := rc.Control(func(fd uintptr) {
		i, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	})
	if cerr != nil {
		return nil, cerr
	}
	return i, err
}
