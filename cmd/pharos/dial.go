package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/pharos-lb/pharos/cluster/api"
)

// ask runs a question to the node that the options name, within the timeout
// and whatever the question itself is allowed to take.
func (o *options) ask(cmd *cobra.Command, allowance time.Duration, question func(context.Context, *api.Client) error) error {
	address, err := o.controlAddress()
	if err != nil {
		return err
	}
	return o.askAt(cmd, address, allowance, question)
}

func (o *options) askAt(cmd *cobra.Command, address string, allowance time.Duration, question func(context.Context, *api.Client) error) error {
	client, err := api.DialDir(o.dir, address)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(cmd.Context(), o.timeout+allowance)
	defer cancel()
	return question(ctx, client)
}
