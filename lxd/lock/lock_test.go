package lock

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sett/shared/errs"
)

type ref struct{ kind, name string }

func (r ref) String() string { return r.kind + "/" + r.name }

func TestTryLockNamesTheHolder(t *testing.T) {
	t.Parallel()
	m := New()
	c1 := ref{"instance", "c1"}
	unlock, err := m.TryLock("operation 17 (Starting instance)", c1, "pool/p")
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.TryLock("operation 18", "network/n", "pool/p")
	var busy *Busy
	if !errors.As(err, &busy) || busy.Holder.Owner != "operation 17 (Starting instance)" || !errs.Is(err, errs.KindUnavailable) {
		t.Fatalf("%v", err)
	}
	if !strings.Contains(err.Error(), "pool/p is busy: operation 17") {
		t.Errorf("%v", err)
	}
	if _, held := m.Holder("network/n"); held {
		t.Error("a refused TryLock kept a lock")
	}
	if h, _ := m.Holder(ref{"instance", "c1"}); h.Key != c1 || len(m.Held()) != 2 {
		t.Errorf("%+v", m.Held())
	}
	unlock()
	unlock()
	if len(m.Held()) != 0 {
		t.Errorf("%+v", m.Held())
	}
}

func TestLockWaitsInOrderAndEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := New()
		first, err := m.Lock(t.Context(), "first", "a")
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				unlock, err := m.Lock(t.Context(), fmt.Sprint(i), "a", "b", "a")
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				got = append(got, fmt.Sprint(i))
				mu.Unlock()
				unlock()
			})
			synctest.Wait()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = m.Lock(ctx, "late", "a")
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "first holds it") {
			t.Errorf("%v", err)
		}
		first()
		wg.Wait()
		if strings.Join(got, "") != "012" || len(m.Held()) != 0 {
			t.Errorf("order %v, held %v", got, m.Held())
		}
	})
}

func TestLocksOfSeveralKeysNeverDeadlock(t *testing.T) {
	t.Parallel()
	m := New()
	keys := []Key{"a", "b", ref{"c", "d"}, 7}
	inside := map[Key]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 200 {
				mine := []Key{keys[(w+i)%4], keys[(w*3+i/2)%4], keys[i%4]}
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%3)*10*time.Microsecond+time.Duration(i%2)*time.Minute)
				unlock, err := m.Lock(ctx, "w", mine...)
				cancel()
				if err != nil {
					continue
				}
				set := map[Key]bool{}
				for _, k := range mine {
					set[k] = true
				}
				mu.Lock()
				for k := range set {
					if inside[k]++; inside[k] != 1 {
						t.Errorf("%v is held twice", k)
					}
				}
				for k := range set {
					inside[k]--
				}
				mu.Unlock()
				unlock()
			}
		})
	}
	wg.Wait()
	if len(m.Held()) != 0 {
		t.Errorf("left: %v", m.Held())
	}
}

func TestBriefHoldersSaySo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := New()
		first, err := m.Lock(t.Context(), "first", "a")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan func())
		go func() {
			unlock, err := m.LockBriefly(t.Context(), "second", "a")
			if err != nil {
				t.Error(err)
			}
			done <- unlock
		}()
		synctest.Wait()
		if h, _ := m.Holder("a"); h.Brief || h.Owner != "first" {
			t.Errorf("%+v", h)
		}
		first()
		unlock := <-done
		if h, _ := m.Holder("a"); !h.Brief || h.Owner != "second" || h.Key != "a" || h.Since.IsZero() {
			t.Errorf("%+v", h)
		}
		var busy *Busy
		if _, err := m.TryLock("third", "a"); !errors.As(err, &busy) || !busy.Holder.Brief {
			t.Errorf("%v", err)
		}
		unlock()
		if len(m.Held()) != 0 {
			t.Errorf("%+v", m.Held())
		}
		if unlock, err = m.TryLockBriefly("fourth", "a", "b"); err != nil {
			t.Fatal(err)
		}
		for _, k := range []Key{"a", "b"} {
			if h, _ := m.Holder(k); !h.Brief || h.Owner != "fourth" || h.Key != k {
				t.Errorf("%+v", h)
			}
		}
		if _, err := m.TryLockBriefly("fifth", "b"); !errors.As(err, &busy) || busy.Holder.Owner != "fourth" {
			t.Errorf("%v", err)
		}
		unlock()
	})
}
